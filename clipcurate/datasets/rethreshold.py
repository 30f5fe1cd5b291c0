"""The subset of a dataset for a smaller target: critical t is a column, so it needs no pool."""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from clipcurate import storage
from clipcurate.balancing import Cut, TailRule, keep_probability
from clipcurate.balancing.cut import RANK, Ranks
from clipcurate.datasets.cuts import resolve_cuts
from clipcurate.datasets.emission import EmissionSummary
from clipcurate.datasets.image_pairs import renumbered, require_samples
from clipcurate.datasets.images import IMAGE_SUFFIXES, tar_samples
from clipcurate.datasets.manifest import NAME, FileRecord, Manifest, load, read_part
from clipcurate.datasets.match_index import from_lists
from clipcurate.datasets.outcomes import Totals
from clipcurate.datasets.parts import SAMPLE, Sample
from clipcurate.datasets.publishing import (
    made_here,
    publish_dataset,
    publish_images,
    publish_pairs,
)
from clipcurate.datasets.request import EmissionRequest
from clipcurate.datasets.snapshot import Counts
from clipcurate.datasets.subset_law import SubsetLaw
from clipcurate.datasets.verify_figures import check_figures, check_file
from clipcurate.errors import ConflictError, InvalidInputError
from clipcurate.hashing import hash_json, hex_to_halves
from clipcurate.languages import names_of, rows_by_name

Progress = Callable[[str], None]
Cuts = Mapping[str, Cut]


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
    request = _request(url, parent, t=None if t is None else float(t), **target)
    request = request.for_languages(counts)
    _refuse_more(url, parent, request)
    cuts = resolve_cuts(request, counts, _Pairs(url, parent))
    _refuse_others(url, parent, cuts)
    run = parent.identity["run"]
    projection = parent.identity.get("projected")
    quarantined = parent.identity.get("quarantined")
    identity = request.identity(run, parent.identity["snapshot"], projection, quarantined)
    identity["subset_of"] = parent.dataset_hash
    emission_id = hash_json(identity)
    folder = output or _beside(url, f"{request.kind}-{emission_id[:16]}")
    if storage.exists(storage.join(folder, NAME)) and load(folder).emission_id != emission_id:
        raise ConflictError(f"{folder}: another dataset is here; give another --output")
    thinned = _Thinning(url, parent, folder, counts, cuts)
    with storage.staged(folder, emission_id[:16]) as directory:
        files = [record for part in thinned.parts(directory, progress) for record in part]
    summary = EmissionSummary(
        emission_id=emission_id,
        identity=identity,
        request=request,
        cuts={name: cut.counted(thinned.repeats) for name, cut in cuts.items()},
        totals=_totals(parent.totals, sum(f.rows for f in files if f.role == "pairs")),
        expected=thinned.law.expected,
        deviation=float(np.sqrt(thinned.law.variance)),
        unknown_rows=parent.unknown_rows,
    )
    provenance = {**made_here(), "subset_of": url, "run": parent.provenance.get("run", "")}
    publish_dataset(folder, summary, files, counts, entries, provenance)
    return folder


def _request(url: str, parent: Manifest, **target: Any) -> EmissionRequest:
    request = EmissionRequest.from_identity(parent.identity)
    if request.kind == "raw":
        raise InvalidInputError(
            f"{url}: a raw dataset also holds pairs that no t keeps; emit a matched or balanced one"
        )
    return replace(request, kind="balanced", **target)


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


@dataclass(frozen=True)
class _Part:
    """The pairs of a part in the order of the pool: their place in the dataset is their row."""

    critical: npt.NDArray[np.float64]
    ranks: Ranks
    rows_by_language: Mapping[str, npt.NDArray[np.int64]]

    @classmethod
    def of(cls, table: pa.Table, first: int) -> "_Part":
        """Return those of a table whose first row has this place."""
        ranks = np.zeros(table.num_rows, RANK)
        ranks["uid"] = hex_to_halves(table["uid"].to_pylist())
        ranks["row"] = np.arange(first, first + table.num_rows)
        rows = rows_by_name(names_of(table["metadata_lang"]))
        return cls(table["critical_t"].to_numpy(), ranks, rows)


@dataclass(frozen=True)
class _Pairs:
    """All pairs of a dataset, read again at every iteration."""

    url: str
    manifest: Manifest

    def __iter__(self) -> Iterator[_Part]:
        """Yield its parts in order."""
        first = 0
        for file in self.manifest.of_role("pairs"):
            check_file(self.url, file)
            yield _Part.of(read_part(self.url, file, ["uid", "metadata_lang", "critical_t"]), first)
            first += file.rows


def _beside(url: str, name: str) -> str:
    """Return a neighbour of a folder."""
    return storage.join(url.rstrip("/").rpartition("/")[0] or ".", name)


def _totals(totals: Totals, kept: int) -> Totals:
    return replace(totals, kept=kept, dropped=totals.dropped + totals.kept - kept)


def _written_schema(url: str, file: FileRecord) -> pa.Schema:
    """Return a part's schema as it was written; reading gives the items of lists another name."""
    with storage.open_read(storage.join(url, file.name)) as source:
        stored = pq.read_metadata(source).metadata[b"ARROW:schema"]
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(stored)))


@dataclass
class _Thinning:
    """Writes a dataset's parts without what lies above the cuts, and adds up how many may stay.

    Attributes:
        repeats: pairs kept on the cut of an exact size that have the uid of the last one.
        law: of the subset's size.
    """

    url: str
    parent: Manifest
    folder: str
    counts: Counts
    cuts: Cuts
    repeats: int = 0
    law: SubsetLaw = field(init=False)

    def __post_init__(self) -> None:
        """Begin with nothing kept."""
        self.law = SubsetLaw.of(self.parent.identity)

    def parts(self, directory: Path, progress: Progress) -> Iterator[list[FileRecord]]:
        """Write every part that is not empty, and yield its files."""
        images = {file.part: file for file in self.parent.of_role("images")}
        number = first = 0
        for file in self.parent.of_role("pairs"):
            progress(f"thinning {file.name}")
            check_file(self.url, file)
            table = read_part(self.url, file)
            if file.part in images:
                require_samples(table.schema, f"{self.url}: {file.name}")
            mask = self._kept(table, _Part.of(table, first))
            first += table.num_rows
            kept = table.filter(pa.array(mask))
            if not kept.num_rows:
                continue
            schema = _written_schema(self.url, file)
            if file.part in images:
                kept = renumbered(kept)
            tables = [kept.cast(schema)]
            records = [publish_pairs(tables, schema, number, directory, self.folder)]
            if file.part in images:
                has_image = table[SAMPLE].is_valid().to_numpy()
                records += self._images(images[file.part], mask[has_image], number, directory)
            yield records
            number += 1
        self.law.finish()

    def _kept(self, table: pa.Table, part: _Part) -> npt.NDArray[np.bool_]:
        kept = np.zeros(table.num_rows, np.bool_)
        now, before = np.zeros(table.num_rows), np.ones(table.num_rows)
        for name, rows in part.rows_by_language.items():
            cut, critical, ranks = self.cuts[name], part.critical[rows], part.ranks[rows]
            kept[rows] = cut.keeps(critical, ranks.__getitem__)
            self.repeats += int((kept[rows] & cut.repeated(critical, ranks)).sum())
            matches, counts = from_lists(table["entry_ids"].take(rows)), self.counts[name]
            now[rows] = keep_probability(matches, counts, cut.t)
            if self.parent.cuts:
                own = Cut.from_json(self.parent.cuts[name]).t
                before[rows] = keep_probability(matches, counts, own)
        self.law.add(now, before, part.critical)
        return kept

    def _images(
        self, file: FileRecord, kept: npt.NDArray[np.bool_], part: int, directory: Path
    ) -> list[FileRecord]:
        """Write the samples that keep a text; no file where none does."""
        check_file(self.url, file)
        samples = self._samples(file, iter(kept.tolist()))
        first = next(samples, None)
        if first is None:
            return []
        return [publish_images(chain([first], samples), part, directory, self.folder)]

    def _samples(self, file: FileRecord, kept: Iterator[bool]) -> Iterator[Sample]:
        """Yield what stays of the samples; `kept` says it for each of the texts of all samples."""
        tar = storage.join(self.url, file.name)
        with storage.open_read(tar) as source:
            for _, members in tar_samples(source, tar):
                record = json.loads(members["json"])
                texts = [text for text in record["texts"] if next(kept)]
                if texts:
                    extension = next(name for name in members if name in IMAGE_SUFFIXES)
                    record |= {"uid": texts[0]["uid"], "texts": texts}
                    yield members[extension], extension, record
