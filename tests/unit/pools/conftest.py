from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from clipcurate.pools import Columns, Slice, find_shards, read_slice

Read = Callable[..., pa.Table]
ANY = Columns()


@pytest.fixture
def read() -> Read:
    """Read a whole one-shard pool as one table."""

    def read_pool(path: Path | str, columns: Columns = ANY, **options: Any) -> pa.Table:
        (shard,) = find_shards([str(path)], columns)
        return pa.concat_tables(read_slice(shard, Slice(0), columns, **options))

    return read_pool
