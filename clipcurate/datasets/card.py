"""The dataset card: what a person (or the Hugging Face hub) reads first."""

from collections.abc import Mapping, Sequence
from typing import Any

from clipcurate.datasets.emission import EmissionSummary
from clipcurate.datasets.manifest import FileRecord

_CARD = """---
configs:
- config_name: default
  data_files: "pairs-*.parquet"
---

# {kind} dataset {emission}

{pairs:,} image-text pairs out of {read:,} read. `manifest.json` proves every figure here.

| outcome | pairs |
|---|---:|
{totals}

{cut}

## Reading it

```python
import duckdb; duckdb.sql("SELECT url, text FROM 'pairs-*.parquet' WHERE critical_t <= 100")
import datasets; datasets.load_dataset("parquet", data_files="pairs-*.parquet")
import numpy; numpy.load("uids.npy")          # DataComp's subset format
```

```sh
img2dataset --input_format parquet --url_list . --url_col url --caption_col text \\
  --save_additional_columns '["uid"]' --output_format webdataset --output_folder images
```
{images}"""

_IMAGES = """
The images are here as webdataset tars ({tars} of them, {samples:,} samples):

```python
import glob, webdataset
webdataset.WebDataset(sorted(glob.glob("images-*.tar")), shardshuffle=False)
```
"""


def dataset_card(
    plan: EmissionSummary, pairs: Sequence[FileRecord], images: Sequence[FileRecord]
) -> str:
    """Return the card as Markdown. It depends on the emission alone."""
    totals = "\n".join(
        f"| {name.replace('_', ' ')} | {count:,} |" for name, count in vars(plan.totals).items()
    )
    cuts = ", ".join(f"t = {cut.t!r} ({name})" for name, cut in plan.cuts.items())
    parent = plan.identity.get("subset_of")
    group = f", grouped by {plan.request.group}" if plan.request.group else ""
    subset = f" A subset of the dataset with hash {parent}." if parent else ""
    return _CARD.format(
        kind=plan.request.kind.capitalize(),
        emission=plan.emission_id,
        pairs=sum(file.rows for file in pairs),
        read=plan.totals.pairs,
        totals=totals,
        cut=f"Cut: {cuts}, seed {plan.request.seed}, semantics {plan.request.semantics}{group}."
        + _stand_for(plan.identity)
        + subset
        if cuts
        else "No cut.",
        images=_IMAGES.format(tars=len(images), samples=sum(f.rows for f in images))
        if images
        else "",
    )


def _stand_for(identity: Mapping[str, Any]) -> str:
    """Say of what pairs the counts are, and for what pairs they stand, where these differ."""
    if not (projected := identity.get("projected")):
        return ""
    why = "The counts were frozen when they had converged" if "quarantined" in identity else ""
    seen, announced = projected["seen"], projected["announced"]
    return f" {why or 'The pool is open'}: counts of {seen:,} pairs stand for {announced:,}."
