"""The files of a dataset: its parts, what stands beside them, and then the manifest."""

import io
import json
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clipcurate import storage
from clipcurate.balancing import tail_share_of
from clipcurate.datasets import blocks
from clipcurate.datasets.card import dataset_card
from clipcurate.datasets.emission import EmissionSummary
from clipcurate.datasets.manifest import (
    FileRecord,
    Manifest,
    is_published,
    publish,
    read_part,
)
from clipcurate.datasets.parts import Sample, write_images, write_pairs
from clipcurate.datasets.snapshot import Counts
from clipcurate.hashing import column_to_halves, hash_bytes

UIDS = "uids.npy"
ENTRY_COUNTS = "entry_counts.json"
CARD = "README.md"
UID_DTYPE = np.dtype("u8,u8")
"""DataComp's subset format: the halves of the 128-bit uid, rows in lexicographic order."""


def counts_name(language: str) -> str:
    """Name the file of a language's counts."""
    return f"counts-{language}.npy"


def read_counts(dataset_url: str, manifest: Manifest) -> Counts:
    """Return the counts that a dataset was balanced by, per metadata language."""
    counts: dict[str, npt.NDArray[np.int64]] = {}
    for language in manifest.identity["run"]["metadata"]:
        (file,) = (f for f in manifest.of_role("counts") if f.name == counts_name(language))
        content = storage.read_object(storage.join(dataset_url, file.name), file.hash)
        counts[language] = np.load(io.BytesIO(content))
    return counts


def publish_pairs(
    tables: Iterable[pa.Table], schema: pa.Schema, part: int, directory: Path, dataset_url: str
) -> FileRecord:
    """Write the pairs of a part, stage them in `directory`, and put them into the dataset."""
    path = directory / "pairs"
    with storage.writing(dataset_url):
        rows, content = write_pairs(tables, schema, path)
    stored = storage.publish(path, dataset_url, f"pairs-{part:05d}", ".parquet")
    return FileRecord(stored.name, "pairs", stored.size, stored.hash, rows, part, content)


def publish_images(
    samples: Iterable[Sample],
    part: int,
    directory: Path,
    dataset_url: str,
    block_bytes: int = blocks.BLOCK_BYTES,
) -> FileRecord:
    """Write the images of a part, stage them in `directory`, and put them into the dataset."""
    path = directory / "images"
    with storage.writing(dataset_url):
        ends = write_images(samples, part, path)
    stored = storage.publish(path, dataset_url, f"images-{part:05d}", ".tar")
    cut = blocks.cut(ends, block_bytes)
    return FileRecord(stored.name, "images", stored.size, stored.hash, len(ends), part, blocks=cut)


def made_here() -> dict[str, Any]:
    """Return when, where and by what versions a dataset is made, for its provenance."""
    return {
        "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "host": platform.node(),
        "versions": {name: version(name) for name in ("clipcurate", "pyarrow", "numpy")},
    }


def publish_dataset(
    dataset_url: str,
    plan: EmissionSummary,
    parts: Sequence[FileRecord],
    counts: Counts,
    entries: Mapping[str, Sequence[str]],
    provenance: dict[str, Any],
) -> Manifest:
    """Write everything but the parts, the manifest last.

    Args:
        dataset_url: the dataset's folder.
        plan: the emission.
        parts: the files of all parts.
        counts: the frozen counts.
        entries: the entries per metadata language.
        provenance: paths, times, hosts, versions.

    Raises:
        ConflictError: another dataset stands there under the same id; nothing is written.
    """
    pairs = sorted((f for f in parts if f.role == "pairs"), key=lambda f: f.part or 0)
    images, image_blocks = _with_block_table(parts)
    uids = sorted_uids(dataset_url, pairs)
    card = dataset_card(plan, pairs, images).encode()
    small = [_SmallFile(UIDS, "uids", _npy(uids), len(uids)), *image_blocks]
    for name in sorted(counts):
        content = _npy(counts[name].astype("<i8"))
        small.append(_SmallFile(counts_name(name), "counts", content, len(counts[name])))
    number = sum(map(len, entries.values()))
    small.append(_SmallFile(ENTRY_COUNTS, "entry_counts", _entry_counts(counts, entries), number))
    small.append(_SmallFile(CARD, "card", card, 0))
    files = [*pairs, *images, *[file.record for file in small]]
    manifest = _manifest(plan, files, counts, provenance, int((uids[1:] == uids[:-1]).sum()))
    if not is_published(dataset_url, manifest):
        for file in small:
            storage.write_bytes(storage.join(dataset_url, file.name), file.content)
        publish(dataset_url, manifest)
    return manifest


@dataclass(frozen=True)
class _SmallFile:
    """A file of a fixed name, which users know; written only where no other dataset stands."""

    name: str
    role: str
    content: bytes
    rows: int

    @property
    def record(self) -> FileRecord:
        """Its line in the manifest."""
        size, digest = len(self.content), hash_bytes(self.content)
        return FileRecord(self.name, self.role, size, digest, self.rows)


def _with_block_table(
    parts: Sequence[FileRecord],
) -> tuple[list[FileRecord], list[_SmallFile]]:
    """Return the tars in order, and the table of their blocks if there are any."""
    tars = sorted((f for f in parts if f.role == "images"), key=lambda f: f.part or 0)
    if not tars:
        return [], []
    table = blocks.table([tar.blocks or [] for tar in tars])
    file = _SmallFile(blocks.NAME, blocks.ROLE, _npy(table), len(table))
    return [replace(tar, blocks=None) for tar in tars], [file]


def sorted_uids(dataset_url: str, pairs: Sequence[FileRecord]) -> npt.NDArray[np.void]:
    """Return all uids of the parts in DataComp's format, sorted."""
    halves = [np.zeros((0, 2), np.uint64)]
    for file in pairs:
        halves.append(column_to_halves(read_part(dataset_url, file, ["uid"])["uid"]))
    return _sorted(np.concatenate(halves)).view(UID_DTYPE).reshape(-1)


def _sorted(halves: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the rows in order: by their high halves, and where these are equal by the low ones."""
    halves = halves[np.argsort(halves[:, 0])]
    high = halves[:, 0]
    again = np.zeros(len(high), np.bool_)
    again[1:] = high[1:] == high[:-1]
    again[:-1] |= again[1:]
    tied = halves[again]
    halves[again] = tied[np.lexsort((tied[:, 1], tied[:, 0]))]
    return halves


def _manifest(
    plan: EmissionSummary,
    files: Sequence[FileRecord],
    counts: Counts,
    provenance: dict[str, Any],
    repeated_uids: int,
) -> Manifest:
    return Manifest(
        identity=plan.identity,
        emission_id=plan.emission_id,
        totals=plan.totals,
        cuts={name: cut.to_json() for name, cut in plan.cuts.items()},
        tail_shares={name: tail_share_of(counts[name], cut.t) for name, cut in plan.cuts.items()},
        expected_size=plan.expected,
        size_deviation=plan.deviation,
        repeated_uids=repeated_uids,
        unknown_rows=plan.unknown_rows,
        files=tuple(files),
        provenance=provenance,
    )


def _entry_counts(counts: Counts, entries: Mapping[str, Sequence[str]]) -> bytes:
    """MetaCLIP's form, {entry: count}; with several languages one such object per language."""
    objects = {
        name: dict(zip(entries[name], counts[name].tolist(), strict=True))
        for name in sorted(counts)
    }
    value = next(iter(objects.values())) if len(objects) == 1 else objects
    return json.dumps(value, ensure_ascii=False).encode()


def _npy(array: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()
