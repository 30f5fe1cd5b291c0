"""The raw pool: find and pin its shards, plan tasks, read slices as pair tables.

shards = find_shards(["s3://bucket/pool/**/*.parquet"], Columns(text="caption"))
for task in plan_tasks(shards):
    for piece in task.slices:
        for table in read_slice(shards[piece.shard], piece, Columns(text="caption")):
            ...
"""

from clipcurate.pools.columns import Columns
from clipcurate.pools.find import find_shards
from clipcurate.pools.pairs import PAIR_FIELDS, PAIR_SCHEMA, extra_columns
from clipcurate.pools.plan import Slice, Task, plan_tasks
from clipcurate.pools.read import read_slice
from clipcurate.pools.shards import Shard

__all__ = [
    "PAIR_FIELDS",
    "PAIR_SCHEMA",
    "Columns",
    "Shard",
    "Slice",
    "Task",
    "extra_columns",
    "find_shards",
    "plan_tasks",
    "read_slice",
]
