"""Writing one part: a parquet file of pairs, and a webdataset tar where the pool has images."""

import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from clipcurate.datasets.content import content_hash
from clipcurate.datasets.emission import EmissionPlan
from clipcurate.datasets.extras import convert
from clipcurate.datasets.match_index import extras_from_hex, to_lists
from clipcurate.datasets.outcomes import Scored, first_kept, kept_mask
from clipcurate.datasets.run_plan import RunPlan
from clipcurate.errors import InputChangedError
from clipcurate.hashing import halves_to_hex
from clipcurate.pools import read_slice

ROW_GROUP = 1 << 16
_MANY_VALUES = {"uid", "url", "text", "entry_ids", "critical_t"}
"""Columns for which a dictionary would only take time and room."""
IMAGE_COLUMNS = ("image", "image_ext")
LoadTask = Callable[[int], Scored]
"""Returns a match task's index and scores."""
Sample = tuple[bytes, str, dict[str, Any]]
"""A kept image, its extension, and the record of its kept texts."""

CORE_SCHEMA = pa.schema(
    [
        ("uid", pa.string()),
        ("url", pa.large_string()),
        ("text", pa.large_string()),
        ("lang", pa.string()),
        ("metadata_lang", pa.string()),
    ]
)
HITS_SCHEMA = pa.schema([("entry_ids", pa.large_list(pa.uint32())), ("critical_t", pa.float64())])
SAMPLE = "sample"
"""The column that says which sample of the part's tar holds a pair's image."""
IMAGE_SCHEMA = pa.schema([(SAMPLE, pa.int64())])


def dataset_schema(extras: pa.Schema, images: bool) -> pa.Schema:
    """Return the columns of a dataset's parquet parts: ours around the pool's own.

    Args:
        extras: the pool's own.
        images: whether the pool has any.
    """
    sources = _sources(extras, images)
    renamed = [extras.field(name).with_name(new) for new, name in sources.items()]
    return pa.schema([*CORE_SCHEMA, *renamed, *HITS_SCHEMA, *(IMAGE_SCHEMA if images else ())])


def _sources(extras: pa.Schema, images: bool) -> dict[str, str]:
    """Map each column of the dataset that is the pool's own to its name in the pool.

    A pool may be one of our datasets, even twice over: then names get one more `pool_`.
    """
    ours = {*CORE_SCHEMA.names, *HITS_SCHEMA.names, *(IMAGE_SCHEMA.names if images else ())}
    sources: dict[str, str] = {}
    for name in extras.names:
        new = name
        while new in ours or new in sources or (new != name and new in extras.names):
            new = f"pool_{new}"
        sources[new] = name
    return sources


@dataclass(frozen=True)
class _Columns:
    """The columns of a dataset: those of its pool, and whether that has images."""

    extras: pa.Schema
    images: bool

    @property
    def sources(self) -> dict[str, str]:
        """The pool's own columns: name in the pool by name in the dataset."""
        return _sources(self.extras, self.images)

    @property
    def unnumbered(self) -> pa.Schema:
        """All columns but `sample`, which depends on the pairs before."""
        schema = dataset_schema(self.extras, self.images)
        return schema.remove(len(schema) - 1) if self.images else schema


@dataclass(frozen=True)
class KeptBatch:
    """Kept pairs of one batch.

    Attributes:
        pairs: with the columns of `dataset_schema`.
        images: image and image_ext of each pair, or None.
        shard: name of the shard that they come from.
        rows: int64, row in the shard of each pair.
    """

    pairs: pa.Table
    images: pa.Table | None
    shard: str
    rows: npt.NDArray[np.int64]


def kept_batches(
    plan: RunPlan, emission: EmissionPlan, part: int, load: LoadTask
) -> Iterator[KeptBatch]:
    """Yield the kept pairs of one part in (shard, row, text) order, read again from the pool.

    Raises:
        InputChangedError: the pool does not hold what was matched.
    """
    columns = _Columns(extras_from_hex(emission.extras), plan.has_images)
    numbering = _Numbering()
    for task, first, last in emission.tasks_of(part):
        scored = load(task)
        kept = kept_mask(emission.request.kind, emission.cuts, scored)
        record = np.cumsum(first_kept(scored.index, kept)) - 1
        wanted = kept & (record >= first) & (record < last)
        batches = _task_batches(plan, task, scored, wanted, columns)
        yield from map(numbering.applied, batches) if plan.has_images else batches


class _Numbering:
    """Numbers the images of a part from 0, in the order in which its tar holds them."""

    def __init__(self) -> None:
        self._last, self._number = ("", -1), -1

    def applied(self, batch: KeptBatch) -> KeptBatch:
        """Return the part's next batch with the column `sample`; null where there is no image."""
        return replace(batch, pairs=batch.pairs.append_column(SAMPLE, self._column(batch)))

    def _column(self, batch: KeptBatch) -> pa.Array:
        rows = batch.rows
        if batch.images is None:
            return pa.nulls(len(rows), pa.int64())
        new = np.r_[(batch.shard, int(rows[0])) != self._last, rows[1:] != rows[:-1]]
        numbers = self._number + np.cumsum(new)
        self._last, self._number = (batch.shard, int(rows[-1])), int(numbers[-1])
        return pa.array(numbers)


def _task_batches(
    plan: RunPlan, task: int, scored: Scored, wanted: npt.NDArray[np.bool_], columns: _Columns
) -> Iterator[KeptBatch]:
    index, position = scored.index, 0
    for part in plan.tasks[task].slices:
        shard = plan.shards[part.shard]
        length = _slice_length(index.shard, position, part.shard)
        if not wanted[position : position + length].any():
            position += length
            continue
        end = position + length
        images = shard.format == "webdataset"
        for pairs in read_slice(shard, part, plan.columns, images=images):
            rows = slice(position, position + pairs.num_rows)
            if not np.array_equal(pairs["row"].to_numpy(), index.row[rows]):
                raise InputChangedError(
                    f"{shard.url}: other rows than were matched; start a new run"
                )
            chosen = np.flatnonzero(wanted[rows])
            if len(chosen):
                yield _batch(pairs, chosen, scored, position, shard.name, columns)
            position = rows.stop
            if not wanted[position:end].any():
                break
        if wanted[position:end].any():
            raise InputChangedError(f"{shard.url}: fewer rows than were matched; start a new run")
        position = end


def _slice_length(shards: npt.NDArray[np.int32], start: int, shard: int) -> int:
    """Count the pairs of the slice that begins at `start`: those of its shard (one slice each)."""
    return int(np.searchsorted(shards[start:], shard, side="right"))


def _batch(
    pairs: pa.Table,
    chosen: npt.NDArray[np.int64],
    scored: Scored,
    start: int,
    shard: str,
    columns: _Columns,
) -> KeptBatch:
    """Return the chosen rows of a pool table whose first pair is number `start` of the task."""
    index, positions = scored.index, start + chosen
    ours = {
        "uid": halves_to_hex(index.uids[positions]),
        "metadata_lang": index.language.take(pa.array(positions)).cast(pa.string()),
        "entry_ids": to_lists(index.matches.take(positions)),
        "critical_t": pa.array(scored.critical[positions]),
    }
    schema, sources = columns.unnumbered, columns.sources
    theirs = {name: sources.get(name, name) for name in schema.names if name not in ours}
    images = [name for name in IMAGE_COLUMNS if name in pairs.column_names]
    wanted = {*theirs.values(), *images}
    taken = pairs.select([n for n in pairs.column_names if n in wanted]).take(pa.array(chosen))
    values = [
        ours[field.name] if field.name in ours else _column(taken, theirs[field.name], field.type)
        for field in schema
    ]
    has_images = taken.select(images) if images else None
    return KeptBatch(pa.table(values, schema=schema), has_images, shard, index.row[positions])


def _column(pairs: pa.Table, name: str, kind: pa.DataType) -> Any:
    if name in pairs.column_names:
        return convert(pairs[name], kind)
    return pa.nulls(pairs.num_rows, kind)


def write_pairs(tables: Iterable[pa.Table], schema: pa.Schema, path: Path) -> tuple[int, str]:
    """Write the parquet file of a part as the tables come; return its rows and its content hash.

    The bytes depend on the pairs and on the writer's version only, not on how they were batched.
    """
    coded = [name for name in schema.names if name not in _MANY_VALUES]
    groups = [schema.empty_table()]
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=coded) as writer:
        for group in _row_groups(tables):
            writer.write_table(group)
            groups.append(group)
    whole = pa.concat_tables(groups)
    return whole.num_rows, content_hash(whole)


def _row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Cut tables anew into pieces of ROW_GROUP rows, each in one chunk."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        while sum(piece.num_rows for piece in waiting) >= ROW_GROUP:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, ROW_GROUP).combine_chunks()
            waiting = [joined.slice(ROW_GROUP)]
    if any(piece.num_rows for piece in waiting):
        yield pa.concat_tables(waiting).combine_chunks()


def write_images(samples: Iterable[Sample], part: int, path: Path) -> list[int]:
    """Write the webdataset tar of a part, a sample per kept image; return where each ends.

    Members of a sample: its image, `.txt` with its first kept text, `.json` with all of them.
    """
    ends: list[int] = []
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for image, extension, record in samples:
            key = f"{part:05d}{len(ends):07d}"
            _add(tar, f"{key}.{extension}", image)
            _add(tar, f"{key}.txt", record["texts"][0]["text"].encode())
            _add(tar, f"{key}.json", json.dumps(record, ensure_ascii=False).encode())
            ends.append(tar.offset)
    return ends


def image_samples(batches: Iterable[KeptBatch]) -> Iterator[Sample]:
    """Group consecutive pairs of one pool row; a row never spans parts, but may span batches."""
    current: Sample | None = None
    for batch in batches:
        if batch.images is None:
            continue
        rows = (batch.pairs.to_pylist(), batch.images.to_pylist(), batch.rows.tolist())
        for pair, image, row in zip(*rows, strict=True):
            if current and (current[2]["shard"], current[2]["row"]) == (batch.shard, row):
                current[2]["texts"].append(_text(pair))
                continue
            if current:
                yield current
            record = {"uid": pair["uid"], "url": pair["url"], "shard": batch.shard, "row": row}
            current = (image["image"], image["image_ext"], record | {"texts": [_text(pair)]})
    if current:
        yield current


def _text(pair: dict[str, Any]) -> dict[str, Any]:
    return {
        name: pair[name]
        for name in ("uid", "text", "lang", "metadata_lang", "entry_ids", "critical_t")
        if pair[name] != float("inf")
    }


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(content), 0o644, 0
    tar.addfile(member, io.BytesIO(content))
