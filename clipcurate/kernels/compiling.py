"""The decorators of all kernels.

numba compiles what a function calls into it, but takes its cached code for fresh as long as the
file that defines the function is unchanged. So the kernels' stamp is a hash of all files that hold
kernels.
"""

from collections.abc import Callable
from typing import Any

from numba import njit

from clipcurate.kernels.entry import STAMP


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function on its first call, without the interpreter's lock, cached on disk."""
    return _stamped(njit(nogil=True, cache=True)(function))


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a function into its callers."""
    return _stamped(njit(nogil=True, cache=True, inline="always")(function))


def dividing(function: Callable[..., Any]) -> Any:
    """Compile a function that divides by zero as IEEE 754 says: to inf or NaN."""
    return _stamped(njit(nogil=True, cache=True, error_model="numpy")(function))


def _stamped(dispatcher: Any) -> Any:
    dispatcher._cache._cache_file._source_stamp = STAMP
    return dispatcher
