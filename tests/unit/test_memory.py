"""Freed memory is used again."""

import platform
import subprocess
import sys

import pytest

REFILL = """
import resource
import pyarrow as pa
from clipcurate.memory import keep_freed_memory

keep_freed_memory()
bytearray(1 << 26)
start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
bytearray(1 << 26)
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start
print(faults, pa.default_memory_pool().backend_name)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")
def test_a_freed_buffer_is_used_again_without_asking_the_kernel_for_its_pages() -> None:
    command = [sys.executable, "-c", REFILL]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    faults, arrow_pool = done.stdout.split()
    assert int(faults) < (1 << 26) // 4096 // 100
    assert arrow_pool == "system"
