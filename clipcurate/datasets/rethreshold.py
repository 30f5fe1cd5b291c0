"""The subset of a dataset at a smaller t: critical t is a column, so the pool is not needed."""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from clipcurate import storage
from clipcurate.balancing import Cut, Groups, keep_probability, size_law
from clipcurate.datasets.cuts import resolve_cuts
from clipcurate.datasets.emission import EmissionSummary
from clipcurate.datasets.images import IMAGE_SUFFIXES, tar_samples
from clipcurate.datasets.manifest import NAME, FileRecord, Manifest, load, read_part
from clipcurate.datasets.match_index import from_lists
from clipcurate.datasets.outcomes import Totals
from clipcurate.datasets.parts import Sample
from clipcurate.datasets.publishing import (
    made_here,
    publish_dataset,
    publish_images,
    publish_pairs,
)
from clipcurate.datasets.request import EmissionRequest
from clipcurate.datasets.snapshot import Counts
from clipcurate.datasets.verify import check_figures, check_file
from clipcurate.errors import ConflictError, InvalidInputError
from clipcurate.hashing import hash_json
from clipcurate.languages import names_of, rows_by_name

Progress = Callable[[str], None]
Cuts = Mapping[str, Cut]


def rethreshold(url: str, t: float, output: str = "", progress: Progress = lambda _: None) -> str:
    """Write the pairs of a dataset whose critical t is at most t as a dataset of its own.

    It has the rows that an emission at t from the same run would have, in the same order; its parts
    are those of the dataset, thinned, without the empty ones. Its identity names the dataset that
    it is a subset of, by its hash, and t. With metadata per language, t is that of English, as for
    an emission.

    Args:
        url: a balanced or matched dataset.
        t: the threshold; at most the dataset's own.
        output: folder of the subset; empty for one beside the dataset.
        progress: told what is being done.

    Returns:
        The subset's folder. The same dataset and t give the same bytes.

    Raises:
        InvalidInputError: t is larger than the dataset's own, or no t can be.
        ConflictError: another dataset stands in `output`.
        DatasetError: the dataset's files contradict its manifest.
    """
    parent = load(url)
    progress("entries and counts")
    counts, entries = check_figures(url, parent)
    request = _request(url, parent, t)
    cuts = resolve_cuts(request, counts, ())
    _refuse_larger(url, parent, cuts)
    run = parent.identity["run"]
    identity = request.identity(run, parent.identity["snapshot"])
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
        cuts=dict(cuts),
        totals=_totals(parent.totals, sum(f.rows for f in files if f.role == "pairs")),
        expected=thinned.expected,
        deviation=float(np.sqrt(thinned.variance)),
        unknown_rows=parent.unknown_rows,
    )
    provenance = {**made_here(), "subset_of": url, "run": parent.provenance.get("run", "")}
    publish_dataset(folder, summary, files, counts, entries, provenance)
    return folder


def _request(url: str, parent: Manifest, t: float) -> EmissionRequest:
    request = EmissionRequest.from_identity(parent.identity)
    if request.kind == "raw":
        raise InvalidInputError(
            f"{url}: a raw dataset also holds pairs that no t keeps; emit a matched or balanced one"
        )
    return replace(request, kind="balanced", t=float(t), size=None, tail_share=None)


def _refuse_larger(url: str, parent: Manifest, cuts: Cuts) -> None:
    """A dataset holds the pairs below its cut, and of those on an exact size's cut only some."""
    for name, cut in cuts.items():
        own = Cut.from_json(parent.cuts[name]) if parent.cuts else Cut(float("inf"))
        if cut.t > own.t or (cut.t == own.t and own.last is not None):
            raise InvalidInputError(
                f"{url}: t = {cut.t:g} (language {name}) would keep pairs that this dataset does "
                f"not hold: its own is {own.t:g}. Ask for a smaller --t, or let `clipcurate run` "
                "emit from the run again"
            )


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
        expected, variance: of the subset's size over seeds, given the dataset: what is kept at the
            dataset's own t stays with probability q(t) / q(own t).
    """

    url: str
    parent: Manifest
    folder: str
    counts: Counts
    cuts: Cuts
    expected: float = 0.0
    variance: float = 0.0

    def parts(self, directory: Path, progress: Progress) -> Iterator[list[FileRecord]]:
        """Write every part that is not empty, and yield its files."""
        images = {file.part: file for file in self.parent.of_role("images")}
        number = 0
        for file in self.parent.of_role("pairs"):
            progress(f"thinning {file.name}")
            check_file(self.url, file)
            table = read_part(self.url, file)
            kept = table.filter(pa.array(self._kept(table)))
            if not kept.num_rows:
                continue
            schema = _written_schema(self.url, file)
            tables = [kept.cast(schema)]
            records = [publish_pairs(tables, schema, number, directory, self.folder)]
            if file.part in images:
                records += self._images(images[file.part], number, directory)
            yield records
            number += 1

    def _kept(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        critical = table["critical_t"].to_numpy()
        kept = np.zeros(table.num_rows, np.bool_)
        now, before = np.zeros(table.num_rows), np.ones(table.num_rows)
        for name, rows in rows_by_name(names_of(table["metadata_lang"])).items():
            kept[rows] = critical[rows] <= self.cuts[name].t
            matches, counts = from_lists(table["entry_ids"].take(rows)), self.counts[name]
            now[rows] = keep_probability(matches, counts, self.cuts[name].t)
            if self.parent.cuts:
                own = Cut.from_json(self.parent.cuts[name]).t
                before[rows] = keep_probability(matches, counts, own)
        self._expect(now, before, Groups.of(critical))
        return kept

    def _expect(
        self, now: npt.NDArray[np.float64], before: npt.NDArray[np.float64], records: Groups
    ) -> None:
        """Add up what may stay: texts, each by its coin, or records, whose texts share critical t.

        (The texts that metaclip2 has chosen have a coin each.)
        """
        is_record = self.parent.identity["semantics"] == "record"
        laws = (size_law("record" if is_record else "pair", q, records) for q in (now, before))
        stays = np.divide(*(law.mean for law in laws))
        texts = records.lengths if is_record else np.ones(1)
        self.expected += float((texts * stays).sum())
        self.variance += float((texts**2 * stays * (1 - stays)).sum())

    def _images(self, file: FileRecord, part: int, directory: Path) -> list[FileRecord]:
        """Write the samples that keep a text; no file where none does."""
        check_file(self.url, file)
        samples = self._samples(file)
        first = next(samples, None)
        if first is None:
            return []
        return [publish_images(chain([first], samples), part, directory, self.folder)]

    def _samples(self, file: FileRecord) -> Iterator[Sample]:
        tar = storage.join(self.url, file.name)
        with storage.open_read(tar) as source:
            for _, members in tar_samples(source, tar):
                record = json.loads(members["json"])
                texts = [text for text in record["texts"] if self._keeps(text)]
                if texts:
                    extension = next(name for name in members if name in IMAGE_SUFFIXES)
                    record |= {"uid": texts[0]["uid"], "texts": texts}
                    yield members[extension], extension, record

    def _keeps(self, text: Mapping[str, Any]) -> bool:
        return bool(text["critical_t"] <= self.cuts[text["metadata_lang"]].t)
