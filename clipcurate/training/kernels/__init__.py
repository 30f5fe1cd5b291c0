"""Compiled code of the loader."""

import numpy as np

from clipcurate.kernels.entry import Array, Entry, Number

_PIXELS, _PLACE = Array(np.uint8, 2), Number(np.float64)

resample_rows = Entry(
    "clipcurate.training.kernels.resampling.resample_rows", _PIXELS, _PLACE, _PLACE, _PIXELS
)

__all__ = ["resample_rows"]
