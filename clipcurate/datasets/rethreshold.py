"""The subset of a dataset for a smaller target: critical t is a column, so it needs no pool."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from clipcurate import storage
from clipcurate.balancing import Cut, TailRule
from clipcurate.datasets.cuts import resolve_cuts
from clipcurate.datasets.emission import EmissionSummary
from clipcurate.datasets.manifest import NAME, FileRecord, Manifest, load
from clipcurate.datasets.outcomes import Totals
from clipcurate.datasets.publishing import made_here, publish_dataset
from clipcurate.datasets.request import EmissionRequest
from clipcurate.datasets.snapshot import Counts
from clipcurate.datasets.subset_parts import Cuts, Pairs, Progress, Thinning
from clipcurate.datasets.verify_figures import check_figures
from clipcurate.errors import ConflictError, InvalidInputError
from clipcurate.hashing import hash_json


def rethreshold(
    url: str,
    t: float | None = None,
    output: str = "",
    progress: Progress = lambda _: None,
    *,
    size: int | None = None,
    tail_share: float | None = None,
    tail_rule: TailRule = "positive",
) -> str:
    """Write the pairs of a dataset that a smaller target keeps as a dataset of its own.

    It has the rows that an emission with this target from the same run would have, in the same
    order; its parts are those of the dataset, thinned, without the empty ones. Its identity names
    the dataset that it is a subset of, by its hash, and the target. What t, size and tail share
    mean, also with metadata per language, is as for an emission.

    Args:
        url: a balanced or matched dataset.
        t: target, as of an `EmissionRequest`.
        output: folder of the subset; empty for one beside the dataset.
        progress: told what is being done.
        size: target.
        tail_share: target.
        tail_rule: target.

    Returns:
        The subset's folder. The same dataset and target give the same bytes.

    Raises:
        InvalidInputError: the dataset does not hold all pairs that the target keeps, or the target
            cannot be meant.
        ConflictError: another dataset stands in `output`.
        DatasetError: the dataset's files contradict its manifest.
    """
    parent = load(url)
    progress("entries and counts")
    counts, entries = check_figures(url, parent)
    target = {"size": size, "tail_share": tail_share, "tail_rule": tail_rule}
    request = _request(url, parent, counts, t=None if t is None else float(t), **target)
    cuts = resolve_cuts(request, counts, Pairs(url, parent))
    _refuse_others(url, parent, cuts)
    identity = _identity(parent, request)
    emission_id = hash_json(identity)
    folder = output or _beside(url, f"{request.kind}-{emission_id[:16]}")
    _refuse_occupied(folder, emission_id)
    thinned = Thinning(url, parent, folder, counts, cuts)
    with storage.staged(folder, emission_id[:16]) as directory:
        files = [record for part in thinned.parts(directory, progress) for record in part]
    summary = _summary(request, identity, thinned, files)
    provenance = {**made_here(), "subset_of": url, "run": parent.provenance.get("run", "")}
    publish_dataset(folder, summary, files, counts, entries, provenance)
    return folder


def _request(url: str, parent: Manifest, counts: Counts, **target: Any) -> EmissionRequest:
    """Return the dataset's request with another target. Raises InvalidInputError."""
    request = EmissionRequest.from_identity(parent.identity)
    if request.kind == "raw":
        raise InvalidInputError(
            f"{url}: a raw dataset also holds pairs that no t keeps; emit a matched or balanced one"
        )
    wanted = replace(request, kind="balanced", **target).for_languages(counts)
    _refuse_more(url, parent, wanted)
    return wanted


def _identity(parent: Manifest, request: EmissionRequest) -> dict[str, Any]:
    """Return what determines the subset's bytes: those of the dataset among it."""
    own = parent.identity
    about = (own["run"], own["snapshot"], own.get("projected"), own.get("quarantined"))
    return {**request.identity(*about), "subset_of": parent.dataset_hash}


def _refuse_occupied(folder: str, emission_id: str) -> None:
    if storage.exists(storage.join(folder, NAME)) and load(folder).emission_id != emission_id:
        raise ConflictError(f"{folder}: another dataset is here; give another --output")


def _refuse_more(url: str, parent: Manifest, request: EmissionRequest) -> None:
    kept = parent.totals.kept
    if request.size is not None and request.size > kept:
        raise InvalidInputError(
            f"{url}: holds {kept:,} pairs, fewer than the {request.size:,} asked for. Ask for at "
            "most as many, or let `clipcurate run` emit from the run again"
        )


def _refuse_others(url: str, parent: Manifest, cuts: Cuts) -> None:
    """A dataset holds the pairs below its cut, and of those on an exact size's cut only some.

    Those come first in the order of its bases, so any smaller size by the same bases is in it.
    """
    nothing_above = dict.fromkeys(cuts, Cut(float("inf")))
    own = {name: Cut.from_json(cut) for name, cut in parent.cuts.items()} or nothing_above
    sized = all(any(c.last is not None for c in some.values()) for some in (cuts, own))
    if sized and all(cut.base == own[name].base for name, cut in cuts.items()):
        return
    for name, cut in cuts.items():
        mine, limit = cut.t / own[name].base, own[name].t / own[name].base
        if cut.t > own[name].t or (mine == limit and own[name].last is not None):
            raise InvalidInputError(
                f"{url}: t = {cut.t:g} (language {name}) would keep pairs that this dataset does "
                f"not hold: its own is {own[name].t:g}. Ask for a smaller --t, --size or "
                "--tail-share, or let `clipcurate run` emit from the run again"
            )


def _beside(url: str, name: str) -> str:
    """Return a neighbour of a folder."""
    return storage.join(url.rstrip("/").rpartition("/")[0] or ".", name)


def _summary(
    request: EmissionRequest,
    identity: dict[str, Any],
    thinned: Thinning,
    files: Sequence[FileRecord],
) -> EmissionSummary:
    """Return what the manifest says of a subset whose files are written."""
    return EmissionSummary(
        emission_id=hash_json(identity),
        identity=identity,
        request=request,
        cuts={name: cut.counted(thinned.repeats) for name, cut in thinned.cuts.items()},
        totals=_totals(thinned.parent.totals, sum(f.rows for f in files if f.role == "pairs")),
        expected=thinned.law.expected,
        deviation=float(np.sqrt(thinned.law.variance)),
        unknown_rows=thinned.parent.unknown_rows,
    )


def _totals(totals: Totals, kept: int) -> Totals:
    return replace(totals, kept=kept, dropped=totals.dropped + totals.kept - kept)
