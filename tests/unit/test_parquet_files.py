"""Tables from parquet files, and no thread of Arrow's that could outlive the reading."""

import io
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipcurate.parquet_files import open_parquet, read_table

TABLE = pa.table({name: pa.array(range(100)) for name in "abc"})

# Run in a process of its own: pytest's has threads of Arrow's from other tests.
COUNT_THREADS = """
import os, sys
from clipcurate.parquet_files import open_parquet, read_table
before = len(os.listdir("/proc/self/task"))
with open(sys.argv[1], "rb") as file:
    read_table(file.read())
    read_table(file, ["c", "a"])
    list(open_parquet(file).iter_batches(10, use_threads=False))
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.parquet"
    pq.write_table(TABLE, path, row_group_size=30)
    return path


def test_a_table_comes_back_from_bytes_and_from_a_file(path: Path) -> None:
    assert read_table(path.read_bytes()) == TABLE
    with path.open("rb") as file:
        assert read_table(file) == TABLE
        assert open_parquet(file, buffer_size=64).read(use_threads=False) == TABLE


def test_columns_come_in_the_order_asked_for_and_must_be_there(path: Path) -> None:
    assert read_table(path.read_bytes(), ["c", "a"]) == TABLE.select(["c", "a"])
    with pytest.raises(KeyError, match="missing"):
        read_table(path.read_bytes(), ["a", "missing"])


@pytest.mark.parametrize("content", [b"", b"PAR1 and no footer"])
def test_damage_is_told(content: bytes) -> None:
    with pytest.raises(pa.ArrowException):
        read_table(io.BytesIO(content))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted by /proc")
def test_arrow_starts_no_thread(path: Path) -> None:
    command = [sys.executable, "-c", COUNT_THREADS, path]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert told == "0\n"
