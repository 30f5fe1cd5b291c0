"""What an image with several texts yields: three published answers, named after their sources.

    pair       MetaCLIP's paper, Alg. 1: every matched text has its own coin.
    metaclip2  Meta CLIP 2, metaclip/curation/curate.py: one of the image's matched texts has a
               coin, chosen uniformly (`random.choice`); the others are not chosen.
    record     MetaCLIP's metaclip/balancing.py: every matched text has its own coin, and one
               success keeps the record with all its matched texts (once; the script appends the
               record for every success).

All three sources count every matched text, so counts do not depend on semantics. What changes is
the critical t: metaclip2 makes it infinite for texts that are not chosen, record gives all texts of
an image their smallest.
"""

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

Semantics = Literal["pair", "metaclip2", "record"]
Number = TypeVar("Number", bound=np.generic)
SEMANTICS: tuple[Semantics, ...] = ("pair", "metaclip2", "record")


@dataclass(frozen=True)
class Groups:
    """Which of n items belong together: those of an image stand side by side.

    Attributes:
        starts: int64, position of each group's first item; ascending, from 0.
        items: n.
    """

    starts: npt.NDArray[np.int64]
    items: int

    @classmethod
    def of(cls, *keys: npt.NDArray[np.generic]) -> "Groups":
        """Group neighbours that are equal in every key; keys have shape (n,)."""
        new = np.ones(len(keys[0]), np.bool_)
        new[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
        return cls(np.flatnonzero(new), len(new))

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Items of each group."""
        return np.diff(self.starts, append=self.items)

    def least(self, values: npt.NDArray[Number]) -> npt.NDArray[Number]:
        """Return for each item the smallest value of its group, shape (n,)."""
        return np.repeat(np.minimum.reduceat(values, self.starts), self.lengths)

    def winners(self, draws: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        """Mark the smallest draw of each group, the first of equal ones, shape (n,)."""
        group = np.repeat(np.arange(len(self.starts)), self.lengths)
        smallest = np.flatnonzero(draws == np.minimum.reduceat(draws, self.starts)[group])
        _, first = np.unique(group[smallest], return_index=True)
        marks = np.zeros(self.items, np.bool_)
        marks[smallest[first]] = True
        return marks


@dataclass(frozen=True)
class SizeLaw:
    """Mean and variance over seeds of how many texts are kept, per part that is independent."""

    mean: npt.NDArray[np.float64]
    variance: npt.NDArray[np.float64]


def size_law(semantics: Semantics, q: npt.NDArray[np.float64], images: Groups) -> SizeLaw:
    """Return how many matched texts are kept, per text (pair) or per image (the others).

    Args:
        semantics: whose.
        q: keep probability of each matched text by its own coin, shape (n,).
        images: the texts of each image.
    """
    size = np.ones(1)
    if semantics == "metaclip2":
        q = np.add.reduceat(q, images.starts) / images.lengths
    elif semantics == "record":
        q, size = 1 - np.multiply.reduceat(1 - q, images.starts), images.lengths.astype(np.float64)
    return SizeLaw(size * q, size**2 * q * (1 - q))
