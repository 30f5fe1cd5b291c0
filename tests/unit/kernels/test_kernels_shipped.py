import os
import subprocess
import sys
from pathlib import Path

import pytest

LOADED = """
import numpy as np
from clipcurate.matching.kernels.hits import count_ids
ids, counts = np.zeros(3, np.uint32), np.zeros(2, np.int64)
count_ids(ids, counts)
print(sum(count_ids.stats.cache_hits.values()), sum(count_ids.stats.cache_misses.values()))
"""


def count_in_a_process(**environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", LOADED],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shipped")
    assert count_in_a_process(NUMBA_CACHE_DIR=str(folder)) == "0 1"
    return folder


def test_shipped_kernels_are_loaded_not_compiled(shipped: Path, tmp_path: Path) -> None:
    places = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "CLIPCURATE_KERNELS": str(shipped)}
    before = {file: file.stat().st_mtime_ns for file in shipped.rglob("*")}
    assert count_in_a_process(**places) == "1 0"
    assert count_in_a_process(**places) == "1 0"
    assert {file: file.stat().st_mtime_ns for file in shipped.rglob("*")} == before


def test_kernels_for_another_processor_are_compiled(shipped: Path, tmp_path: Path) -> None:
    places = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "CLIPCURATE_KERNELS": str(shipped)}
    other = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    assert count_in_a_process(**places, **other) == "0 1"
    assert count_in_a_process(**places, **other) == "1 0"
