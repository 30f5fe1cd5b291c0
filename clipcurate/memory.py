"""How a process that works through arrays gets its memory.

A task allocates and frees columns of some megabytes, over and over. By default each of them comes
from the kernel and goes back to it, and the kernel fills every page with zeros: up to a quarter of
the processor time of a task that writes. The price: matchers and samplers have peaks that are 5 to
10 % larger, and what they keep is not there for others.
"""

import ctypes

import pyarrow as pa

KEPT_BYTES = 1 << 30
"""Most freed memory at the end of the heap that stays with the process."""

_OLD_LIMIT = 32 << 20
"""Largest threshold that glibc before 2.35 takes."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt, as <malloc.h> numbers them."""


def keep_freed_memory() -> None:
    """Let this process use again what it freed, up to KEPT_BYTES; Arrow's memory too.

    Call it before any large array is made. Needs glibc; elsewhere only Arrow's pool changes.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        if not mallopt(_M_MMAP_THRESHOLD, KEPT_BYTES):
            mallopt(_M_MMAP_THRESHOLD, _OLD_LIMIT)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
