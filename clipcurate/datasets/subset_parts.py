"""The parts of a subset: those of a dataset without what lies above the subset's cuts."""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from clipcurate import storage
from clipcurate.balancing import Cut, keep_probability
from clipcurate.balancing.cut import RANK, Ranks
from clipcurate.datasets.image_pairs import renumbered, require_samples
from clipcurate.datasets.images import IMAGE_SUFFIXES, tar_samples
from clipcurate.datasets.manifest import FileRecord, Manifest, read_part
from clipcurate.datasets.match_index import from_lists
from clipcurate.datasets.parts import SAMPLE, Sample
from clipcurate.datasets.publishing import publish_images, publish_pairs
from clipcurate.datasets.snapshot import Counts
from clipcurate.datasets.subset_law import SubsetLaw
from clipcurate.datasets.verify_figures import check_file
from clipcurate.hashing import hex_to_halves
from clipcurate.languages import names_of, rows_by_name

Progress = Callable[[str], None]
Cuts = Mapping[str, Cut]


@dataclass(frozen=True)
class Part:
    """The pairs of a part in the order of the pool: their place in the dataset is their row."""

    critical: npt.NDArray[np.float64]
    ranks: Ranks
    rows_by_language: Mapping[str, npt.NDArray[np.int64]]

    @classmethod
    def of(cls, table: pa.Table, first: int) -> "Part":
        """Return those of a table whose first row has this place."""
        ranks = np.zeros(table.num_rows, RANK)
        ranks["uid"] = hex_to_halves(table["uid"].to_pylist())
        ranks["row"] = np.arange(first, first + table.num_rows)
        rows = rows_by_name(names_of(table["metadata_lang"]))
        return cls(table["critical_t"].to_numpy(), ranks, rows)


@dataclass(frozen=True)
class Pairs:
    """All pairs of a dataset, read again at every iteration."""

    url: str
    manifest: Manifest

    def __iter__(self) -> Iterator[Part]:
        """Yield its parts in order."""
        first = 0
        for file in self.manifest.of_role("pairs"):
            check_file(self.url, file)
            yield Part.of(read_part(self.url, file, ["uid", "metadata_lang", "critical_t"]), first)
            first += file.rows


@dataclass
class Thinning:
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
            mask = self._kept(table, Part.of(table, first))
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

    def _kept(self, table: pa.Table, part: Part) -> npt.NDArray[np.bool_]:
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


def _written_schema(url: str, file: FileRecord) -> pa.Schema:
    """Return a part's schema as it was written; reading gives the items of lists another name."""
    with storage.open_read(storage.join(url, file.name)) as source:
        stored = pq.read_metadata(source).metadata[b"ARROW:schema"]
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(stored)))
