"""The result of matching: hits as compressed sparse rows."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clipcurate.matching.kernels import count_ids, take_rows


@dataclass(frozen=True)
class Matches:
    """Hits of n texts in CSR form.

    Attributes:
        row_offsets: int64, shape (n + 1,), starts at 0 and never falls; text i's hits are
            `entry_ids[row_offsets[i]:row_offsets[i + 1]]`.
        entry_ids: uint32; ascending and distinct within a text.
    """

    row_offsets: npt.NDArray[np.int64]
    entry_ids: npt.NDArray[np.uint32]

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.row_offsets) - 1

    def __getitem__(self, row: int) -> npt.NDArray[np.uint32]:
        """Return the entry ids of one text."""
        return self.entry_ids[self.row_offsets[row] : self.row_offsets[row + 1]]

    @property
    def hits_per_text(self) -> npt.NDArray[np.int64]:
        """Number of hits of each text, shape (n,)."""
        return np.diff(self.row_offsets)

    def take(self, rows: npt.NDArray[np.int64]) -> "Matches":
        """Return the hits of the given texts, in the given order."""
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(self.hits_per_text[rows], out=offsets[1:])
        taken = np.empty(offsets[-1], np.uint32)
        take_rows(self.row_offsets, self.entry_ids, np.asarray(rows, np.int64), offsets, taken)
        return Matches(offsets, taken)

    def sparse_counts(self) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
        """Return the ascending distinct entry ids and how many texts match each."""
        counts = np.zeros(int(self.entry_ids.max(initial=0)) + 1, np.uint32)
        count_ids(self.entry_ids, counts)
        ids = np.flatnonzero(counts)
        return ids.astype(np.uint32), counts[ids]

    @staticmethod
    def concatenate(parts: "list[Matches]") -> "Matches":
        """Stack the hits of consecutive batches of texts."""
        if not parts:
            return Matches(np.zeros(1, np.int64), np.zeros(0, np.uint32))
        lengths = np.concatenate([part.hits_per_text for part in parts])
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return Matches(offsets, np.concatenate([part.entry_ids for part in parts]))
