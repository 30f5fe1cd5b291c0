"""What bounds matching: time per stage of the kernel, on distinct texts and on few.

    python benchmarks/matching_stages.py [--texts POOL.parquet ... --metadata ENTRIES.json.gz]

With few texts, again and again, all that they touch of the tables is in the first two caches: the
difference is what waiting for memory costs; the rest is instructions.
"""

from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
from harness import arguments, cpu_seconds, load, report
from numba import njit

from clipcurate.kernels.buffers import string_buffers
from clipcurate.matching.kernels.gathering import gather
from clipcurate.matching.kernels.layout import PADDING
from clipcurate.matching.kernels.splitting import SLACK, ZERO, Cursor, split_texts
from clipcurate.matching.kernels.walking import (
    BLOCK,
    ONE,
    find_hits,
    look_up,
    make_block,
)
from clipcurate.matching.rules import RULES
from clipcurate.matching.token_trie import TokenTrie

STAGES = ("split", "look up", "walk", "gather")
FEW = 100


@njit(nogil=True)
def run(tables: Any, data: Any, offsets: Any, hits: Any, stages: int) -> None:
    """Match all texts, but in each block go no further than so many stages."""
    rows = np.uint64(offsets.size - 1)
    block = make_block(BLOCK + SLACK)
    row_offsets, size = np.zeros(rows + ONE, np.int64), ZERO
    cursor = Cursor(ZERO, False, ZERO, ZERO, ZERO)
    while cursor.row < rows:
        count, row, _, _ = split_texts(data, offsets, cursor, tables.open_bits, block.tokens)
        if stages > 1:
            look_up(tables, data, block, count)
        if stages > 2:  # noqa: PLR2004
            found, raw = find_hits(tables, block, count, count)
            if stages > 3:  # noqa: PLR2004
                size = gather(found, raw, hits, size, row_offsets[cursor.row + ONE : row + ONE])
        cursor = Cursor(row, False, ZERO, ZERO, ZERO)


def nanoseconds(trie: TokenTrie, column: pa.Array, rounds: int) -> dict[str, float]:
    """Return nanoseconds per text and stage."""
    data, offsets = string_buffers(column)
    data = np.pad(data, (0, PADDING))
    hits = np.empty(len(data), np.uint32)
    work = [lambda n=n: run(trie._tables, data, offsets, hits, n) for n in range(1, 5)]
    work[-1]()
    ends = [0.0, *(median(cpu_seconds(w) for _ in range(rounds)) for w in work)]
    each = np.diff(ends) / len(column) * 1e9
    return {stage: round(float(ns), 1) for stage, ns in zip(STAGES, each, strict=True)}


def main() -> None:
    args = arguments(__doc__).parse_args()
    entries, pools = load(args)
    trie = TokenTrie.build(pa.array(entries, pa.large_string()), RULES["metaclip1"])
    results = {}
    for name, column in pools.items():
        few = pa.concat_arrays([column.slice(i, 1) for i in range(0, len(column), FEW)])
        results[name] = {
            "distinct texts": nanoseconds(trie, column, args.rounds),
            f"every {FEW}th text, {FEW} times": nanoseconds(
                trie, pa.concat_arrays([few] * FEW), args.rounds
            ),
        }
    report({"nanoseconds_per_text": results}, args.output)


if __name__ == "__main__":
    main()
