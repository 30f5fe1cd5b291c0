"""The decorator of all kernels.

numba compiles what a function calls into it, but takes its cached code for fresh as long as the
file that defines the function is unchanged. So the kernels' stamp is a hash of all files that hold
kernels.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

from clipcurate.kernels.shipped import copy_shipped

_FILES = sorted(Path(__file__).parents[1].glob("**/kernels/*.py"))
STAMP = hashlib.sha256(b"".join(file.read_bytes() for file in _FILES)).hexdigest()
"""Changes with every kernel."""

copy_shipped()


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function on its first call, without the interpreter's lock, cached on disk."""
    return _stamped(njit(nogil=True, cache=True)(function))


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a function into its callers."""
    return _stamped(njit(nogil=True, cache=True, inline="always")(function))


def _stamped(dispatcher: Any) -> Any:
    dispatcher._cache._cache_file._source_stamp = STAMP
    return dispatcher
