"""What identifies pairs and images: uids, coin keys, and the ids of images."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clipcurate.datasets.request import ImageName
from clipcurate.hashing import column_to_halves, hash_pairs, hash_pairs_twice

Halves = npt.NDArray[np.uint64]
"""128-bit ids of shape (n, 2), high half first."""


def pair_keys(pairs: pa.Table) -> tuple[Halves, Halves]:
    """Return the uids and coin keys of a table of pairs; zeros where the text is null.

    The uid is the pool's own where the table has one, else xxh3_128(image key, NUL, text); the coin
    key is xxh3_128(uid, NUL, text) with the uid as 32 lower-case hex digits.
    """
    present = pairs["text"].is_valid().to_numpy()
    used = pairs.filter(pa.array(present)) if not present.all() else pairs
    found = hash_pairs_twice(used["key"], used["text"], used["uid"])
    if used is pairs:
        return found
    uids, coin_keys = np.zeros((2, pairs.num_rows, 2), np.uint64)
    uids[present], coin_keys[present] = found
    return uids, coin_keys


def pair_uids(pairs: pa.Table) -> Halves:
    """Return the uids of a table of pairs whose texts are all there."""
    computed = hash_pairs(pairs["key"], pairs["text"])
    own = pairs["uid"].is_valid().to_numpy()
    if own.any():
        computed[own] = column_to_halves(pairs["uid"].drop_null())
    return computed


def image_ids(pairs: pa.Table, by: ImageName = "url") -> tuple[Halves, npt.NDArray[np.bool_]]:
    """Return xxh3_128(name, NUL) of what names each pair's image, and whether anything does.

    The name is its url, or where that is empty its image key; or the image key alone.
    """
    names = pairs["key"]
    if by == "url":
        names = pc.if_else(pc.equal(pairs["url"], ""), names, pairs["url"])
    ids = hash_pairs(names, pa.nulls(len(names), pa.string()))
    return ids, pc.not_equal(names, "").to_numpy()
