"""Compiled code of critical t."""

import numpy as np

from clipcurate.kernels.entry import F64, I64, U32, Entry, Number

_HERE = "clipcurate.balancing.kernels.scoring"

first_uncounted = Entry(f"{_HERE}.first_uncounted", U32, I64, returns=Number(np.int64))
critical = Entry(f"{_HERE}.critical", I64, U32, I64, F64, F64, F64)
misses = Entry(f"{_HERE}.misses", I64, U32, I64, Number(np.float64), F64, F64)

__all__ = ["critical", "first_uncounted", "misses"]
