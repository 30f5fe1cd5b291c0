"""The decorator of all kernels here.

numba compiles what a function calls into it, but takes its cached code for fresh as long as the
file that defines the function is unchanged. So the kernels' stamp is a hash of all their files.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

from clipcurate.hashing import hash_bytes

_STAMP = hash_bytes(*(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py"))))


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function on its first call, without the interpreter's lock, cached on disk."""
    return _stamped(njit(nogil=True, cache=True)(function))


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a function into its callers."""
    return _stamped(njit(nogil=True, cache=True, inline="always")(function))


def _stamped(dispatcher: Any) -> Any:
    dispatcher._cache._cache_file._source_stamp = _STAMP
    return dispatcher
