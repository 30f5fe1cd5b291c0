"""Moving and counting hits without arrays of indexes as large as eight times the hits."""

import numpy as np

from clipcurate.kernels.compiling import kernel


@kernel
def take_rows(row_offsets, entry_ids, rows, ends, taken):
    """Copy the hits of the given rows: row i's to taken[ends[i]:ends[i + 1]]."""
    for number in range(rows.size):
        first, count = row_offsets[rows[number]], ends[number + 1] - ends[number]
        for place in range(count):
            taken[ends[number] + place] = entry_ids[first + place]


@kernel
def count_ids(entry_ids, counts):
    """Add 1 to counts[e] for each e in entry_ids."""
    for place in range(entry_ids.size):
        counts[np.uint64(entry_ids[place])] += 1
