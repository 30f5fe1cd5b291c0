import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcurate.errors import InvalidInputError
from clipcurate.pools import Shard, Slice, Task, plan_tasks
from clipcurate.pools.plan import estimated_rows, planned_rows


def parquet(*groups: int) -> Shard:
    return Shard("n.parquet", "/n", "parquet", "", 1, "p", "", groups)


BROKEN = Shard("broken.parquet", "/n", "parquet", "", 1, "p", "", None)


def test_small_shards_go_together_and_large_ones_are_cut() -> None:
    shards = [parquet(4), parquet(5), parquet(2), parquet(6, 6, 3), parquet(1)]
    assert plan_tasks(shards, 10) == [
        Task((Slice(0), Slice(1))),
        Task((Slice(2),)),
        Task((Slice(3, 0, 1),)),
        Task((Slice(3, 1, 2),)),
        Task((Slice(4),)),
    ]


@given(st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=5), max_size=8))
def test_rows_of_all_tasks_are_those_of_all_shards(groups: list[list[int]]) -> None:
    shards = [parquet(*rows) for rows in groups]
    tasks = plan_tasks(shards, 10)
    assert sum(planned_rows(shards, task) for task in tasks) == sum(map(sum, groups))


def test_a_row_group_is_never_cut() -> None:
    assert plan_tasks([parquet(50)], 10) == [Task((Slice(0, 0, 1),))]


def test_an_unreadable_footer_is_alone() -> None:
    assert plan_tasks([parquet(1), BROKEN, parquet(1)], 10) == [
        Task((Slice(0),)),
        Task((Slice(1),)),
        Task((Slice(2),)),
    ]


def test_a_large_stream_is_one_task() -> None:
    shard = Shard("n.jsonl", "/n", "jsonl", "", 10**9, "p", "", None)
    assert plan_tasks([shard, parquet(1)], 10) == [Task((Slice(0),)), Task((Slice(1),))]


@pytest.mark.parametrize(
    ("form", "compression", "rows"),
    [("jsonl", "", 1000), ("csv", "gz", 4000), ("webdataset", "", 10), ("webdataset", "gz", 10)],
)
def test_unknown_rows_are_estimated_from_the_size(form, compression, rows) -> None:  # type: ignore[no-untyped-def]
    shard = Shard("n", "/n", form, compression, 200_000, "p", "", None)
    assert estimated_rows(shard) == rows


def test_task_rows_must_be_positive() -> None:
    with pytest.raises(InvalidInputError, match="task_rows is 0"):
        plan_tasks([], 0)


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=5).map(lambda g: parquet(*g)) | st.just(BROKEN)),
    st.integers(1, 12),
)
def test_every_row_group_is_in_exactly_one_task_in_order(shards: list[Shard], rows: int) -> None:
    planned = [piece for task in plan_tasks(shards, rows) for piece in task.slices]
    covered = [
        (piece.shard, group)
        for piece in planned
        for group in range(
            piece.first_group,
            piece.first_group + (piece.num_groups or len(shards[piece.shard].groups or "?")),
        )
    ]
    assert covered == [
        (i, group) for i, shard in enumerate(shards) for group in range(len(shard.groups or "?"))
    ] or any(shard.groups == () for shard in shards)
    assert {piece.shard for piece in planned} == set(range(len(shards)))
