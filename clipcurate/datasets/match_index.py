"""The match index: what matching found for every pair of a task. It is the truth behind counts."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clipcurate.balancing.cut import RANK, Ranks
from clipcurate.datasets.dedup import Duplicates
from clipcurate.datasets.extras import unify_extras
from clipcurate.datasets.pair_ids import pair_keys
from clipcurate.datasets.run_plan import RunPlan
from clipcurate.languages import Names, Router, rows_by_name
from clipcurate.matching import Matches
from clipcurate.pools import PAIR_SCHEMA, Slice, extra_columns, read_slice

SUFFIX = ".arrow"
"""Of the names of stored match indexes."""
_CODED = ("language", "reason")


class Status(IntEnum):
    """What is known of a pair before balancing."""

    REJECTED = 0
    FILTERED = 1
    DUPLICATE = 2
    UNMATCHED = 3
    NOT_CHOSEN = 4
    MATCHED = 5


@dataclass(frozen=True)
class MatchIndex:
    """One row per pair, in reading order. All arrays have shape (n,), keys (n, 2).

    Attributes:
        shard: int32, position in the run's plan.
        row: int64, row in the shard.
        text_index: int32, which text of the row.
        uids: uint64, halves of the pair's uid; 0 where rejected.
        coin_keys: uint64, halves of xxh3_128(uid, NUL, text).
        language: metadata language, "" where rejected or a duplicate; the run may have no metadata
            for it, and then the pair is unmatched.
        status: uint8, a Status.
        reason: dictionary of strings; why it was rejected, else null.
        row_bytes: int64, size of the whole pool row.
        matches: hits of each pair.
        extras: Arrow schema of the pool's other columns.
    """

    shard: npt.NDArray[np.int32]
    row: npt.NDArray[np.int64]
    text_index: npt.NDArray[np.int32]
    uids: npt.NDArray[np.uint64]
    coin_keys: npt.NDArray[np.uint64]
    language: Names
    status: npt.NDArray[np.uint8]
    reason: pa.DictionaryArray
    row_bytes: npt.NDArray[np.int64]
    matches: Matches
    extras: pa.Schema

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.row)

    @property
    def ranks(self) -> Ranks:
        """What breaks ties of critical t."""
        return self.ranks_of(slice(None))

    def ranks_of(self, rows: npt.NDArray[np.int64] | slice) -> Ranks:
        """Return the ranks of some pairs."""
        ranks = np.zeros(len(self.row[rows]), RANK)
        ranks["uid"], ranks["shard"] = self.uids[rows], self.shard[rows]
        ranks["row"], ranks["text_index"] = self.row[rows], self.text_index[rows]
        return ranks

    @cached_property
    def rows_by_language(self) -> dict[str, npt.NDArray[np.int64]]:
        """The ascending positions of the pairs of each language that occurs, in its order."""
        found = rows_by_name(self.language)
        found.pop("", None)
        return found

    def hits_by_language(self) -> dict[str, int]:
        """Return the number of hits per metadata language that has any."""
        hits = self.matches.hits_per_text
        sums = {name: int(hits[rows].sum()) for name, rows in self.rows_by_language.items()}
        return {name: total for name, total in sums.items() if total}

    def unmatched_by_language(self) -> dict[str, int]:
        """Return the number of unmatched pairs per language that has any."""
        unmatched = self.status == Status.UNMATCHED
        sums = {name: int(unmatched[rows].sum()) for name, rows in self.rows_by_language.items()}
        return {name: total for name, total in sums.items() if total}

    def in_language(self, name: str) -> Matches:
        """Return the hits of the pairs of one language."""
        rows = self.rows_by_language.get(name, np.zeros(0, np.int64))
        return self.matches if len(rows) == len(self) else self.matches.take(rows)

    def sparse_counts(self) -> dict[str, tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]]:
        """Return ascending entry ids and texts per entry, per metadata language with any hit."""
        names = list(self.hits_by_language())
        if len(names) == 1:  # the hits of all pairs are this language's
            return {names[0]: self.matches.sparse_counts()}
        return {name: self.in_language(name).sparse_counts() for name in names}

    def rejections(self) -> dict[str, int]:
        """Return the number of rejected pairs per reason."""
        counted = self.reason.drop_null().value_counts()
        return {item["values"]: item["counts"] for item in counted.to_pylist()}

    def add_to(self, counts: Mapping[str, npt.NDArray[np.int64]]) -> None:
        """Add the texts per entry to counts per metadata language, in place."""
        for name, (ids, adds) in self.sparse_counts().items():
            counts[name][ids] += adds

    def to_bytes(self) -> bytes:
        """Return the index as an Arrow file."""
        columns = {
            "shard": self.shard,
            "row": self.row,
            "text_index": self.text_index,
            "uid": _to_halves(self.uids),
            "coin_key": _to_halves(self.coin_keys),
            "language": self.language,
            "status": self.status,
            "reason": self.reason,
            "row_bytes": self.row_bytes,
            "entry_ids": to_lists(self.matches),
        }
        table = pa.table(columns, metadata={"extras": extras_to_hex(self.extras)})
        buffer = io.BytesIO()
        options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
        with pa.ipc.new_file(buffer, table.schema, options=options) as writer:
            writer.write_table(table)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "MatchIndex":
        """Read what `to_bytes` wrote."""
        options = pa.ipc.IpcReadOptions(use_threads=False)
        with pa.ipc.open_file(pa.py_buffer(content), options=options) as reader:
            table = reader.read_all()
        get = {name: _whole(table[name]) for name in table.column_names}
        return cls(
            shard=get["shard"].to_numpy(),
            row=get["row"].to_numpy(),
            text_index=get["text_index"].to_numpy(),
            uids=_from_halves(get["uid"]),
            coin_keys=_from_halves(get["coin_key"]),
            language=get["language"],
            status=get["status"].to_numpy(),
            reason=get["reason"],
            row_bytes=get["row_bytes"].to_numpy(),
            matches=from_lists(table["entry_ids"]),
            extras=extras_from_hex(table.schema.metadata[b"extras"].decode()),
        )

    @classmethod
    def empty(cls) -> "MatchIndex":
        """Return an index of no pairs."""
        nothing = Matches(np.zeros(1, np.int64), np.zeros(0, np.uint32))
        pairs = PAIR_SCHEMA.empty_table()
        names = pa.array([], pa.string()).dictionary_encode()
        return index_pairs(pairs, 0, pa.schema([]), nothing, names)

    @classmethod
    def concatenate(cls, parts: "list[MatchIndex]") -> "MatchIndex":
        """Stack the indexes of consecutive batches; at least one."""
        columns = {
            name: [getattr(part, name) for part in parts] for name in cls.__dataclass_fields__
        }
        matches, extras = columns.pop("matches"), columns.pop("extras")
        coded = {name: _whole(pa.chunked_array(columns.pop(name))) for name in _CODED}
        arrays = {name: np.concatenate(pieces) for name, pieces in columns.items()}
        return cls(
            **arrays,
            **coded,
            matches=Matches.concatenate(matches),
            extras=unify_extras(extras),
        )


def index_pairs(
    pairs: pa.Table,
    shard: int,
    extras: pa.Schema,
    matches: Matches,
    languages: Names,
    duplicate: npt.NDArray[np.bool_] | None = None,
) -> MatchIndex:
    """Index a table of pairs, as a pool reader yields it.

    Args:
        pairs: the pair table.
        shard: position of its shard in the plan.
        extras: schema of the pool's other columns.
        matches: hits of each pair.
        languages: metadata language of each pair.
        duplicate: which pairs an earlier one stands for, shape (n,); they have no hits.
    """
    rejected = pairs["text"].is_null().to_numpy()
    duplicate = np.zeros(pairs.num_rows, np.bool_) if duplicate is None else duplicate
    hit = matches.hits_per_text > 0
    uids, coin_keys = pair_keys(pairs)
    outcomes = [Status.REJECTED, Status.DUPLICATE, Status.MATCHED]
    return MatchIndex(
        shard=np.full(pairs.num_rows, shard, np.int32),
        row=pairs["row"].to_numpy(),
        text_index=pairs["text_index"].to_numpy(),
        uids=uids,
        coin_keys=coin_keys,
        language=_blanked(languages, rejected | duplicate),
        status=np.select([rejected, duplicate, hit], outcomes, Status.UNMATCHED).astype(np.uint8),
        reason=_whole(pairs["reject"]).dictionary_encode(),
        row_bytes=pairs["row_bytes"].to_numpy(),
        matches=matches,
        extras=extras,
    )


def index_batches(
    plan: RunPlan, piece: Slice, router: Router, duplicates: Duplicates | None = None
) -> Iterator[MatchIndex]:
    """Read and match one slice of the pool, batch by batch.

    Args:
        plan: the run's plan.
        piece: the slice.
        router: finds languages and hits.
        duplicates: of the task, with all slices before this one gone through; None if all stay.
    """
    for pairs in read_slice(plan.shards[piece.shard], piece, plan.columns):
        extras = pairs.select(extra_columns(pairs)).schema
        dropped = None if duplicates is None else duplicates.among(piece.shard, pairs)
        survivors = pairs if dropped is None else _without_texts(pairs, dropped)
        languages = router.choose(survivors)
        matches = router.match(survivors["text"], languages)
        yield index_pairs(pairs, piece.shard, extras, matches, languages, dropped)


def _without_texts(pairs: pa.Table, where: npt.NDArray[np.bool_]) -> pa.Table:
    nothing = pa.scalar(None, pairs["text"].type)
    texts = pc.if_else(pa.array(where), nothing, pairs["text"])
    return pairs.set_column(pairs.column_names.index("text"), "text", texts)


def extras_to_hex(schema: pa.Schema) -> str:
    """Return a schema as hexadecimal text."""
    digits: str = schema.remove_metadata().serialize().to_pybytes().hex()
    return digits


def extras_from_hex(digits: str) -> pa.Schema:
    """Read what `extras_to_hex` wrote."""
    return pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(digits)))


def to_lists(matches: Matches) -> pa.LargeListArray:
    """Return hits as an Arrow list column."""
    return pa.LargeListArray.from_arrays(matches.row_offsets, pa.array(matches.entry_ids))


def from_lists(column: pa.ChunkedArray) -> Matches:
    """Return an Arrow list column as hits."""
    lists = column.combine_chunks().cast(pa.large_list(pa.uint32()))
    if isinstance(lists, pa.ChunkedArray):
        lists = pa.concat_arrays(lists.chunks) if lists.num_chunks else pa.array([], lists.type)
    offsets = lists.offsets.to_numpy().astype(np.int64)
    ids = lists.values.to_numpy()[offsets[0] : offsets[-1]] if len(offsets) else np.zeros(0)
    start = offsets[0] if len(offsets) else 0
    return Matches(offsets - start, ids.astype(np.uint32, copy=False))


def _blanked(names: Names, where: npt.NDArray[np.bool_]) -> Names:
    """Return the names with "" in some rows."""
    if not where.any():
        return names
    known = names.dictionary.to_pylist()
    blank = known.index("") if "" in known else len(known)
    codes = np.where(where, np.int32(blank), names.indices.to_numpy())
    return pa.DictionaryArray.from_arrays(codes, [*known, ""][: max(len(known), blank + 1)])


def _to_halves(keys: npt.NDArray[np.uint64]) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(keys.reshape(-1)), 2)


def _from_halves(column: pa.FixedSizeListArray) -> npt.NDArray[np.uint64]:
    halves: npt.NDArray[np.uint64] = column.flatten().to_numpy().reshape(-1, 2)
    return halves


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """Return a column in one piece, with one dictionary."""
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.unify_dictionaries().chunks or [pa.array([], column.type)])
