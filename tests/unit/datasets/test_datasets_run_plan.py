from dataclasses import replace
from pathlib import Path

import pytest

from clipcurate.datasets.dedup import KINDS, Dedup
from clipcurate.datasets.run_plan import RunPlan
from clipcurate.errors import PoolError
from clipcurate.languages import CodeMap, IdentifierModel, LanguageChoice
from clipcurate.pools import Columns, Slice, Task


def make(pool: Path, task_rows: int = 10, columns: Columns | None = None) -> RunPlan:
    return RunPlan.make([str(pool)], columns or Columns(), task_rows)


def test_round_trip(parquet_pool: Path) -> None:
    plan = make(parquet_pool, columns=Columns(text="text", lang="site", more_texts=("url",)))
    again = RunPlan.from_bytes(plan.to_bytes())
    assert again == plan
    assert again.to_bytes() == plan.to_bytes()


def test_the_run_id_is_what_determines_the_counts(parquet_pool: Path) -> None:
    plan = make(parquet_pool)
    run_id = plan.run_id({"all": "f"}, "metaclip1")
    moved = tuple(replace(shard, url="/elsewhere", modified="never") for shard in plan.shards)
    for same in (make(parquet_pool), make(parquet_pool, 1000), replace(plan, shards=moved)):
        assert same.run_id({"all": "f"}, "metaclip1") == run_id
    others = [
        plan.run_id({"all": "g"}, "metaclip1"),
        plan.run_id({"en": "f"}, "metaclip1"),
        plan.run_id({"all": "f"}, "metaclip2"),
        make(parquet_pool, columns=Columns(text="url")).run_id({"all": "f"}, "metaclip1"),
        replace(plan, shards=plan.shards[1:]).run_id({"all": "f"}, "metaclip1"),
        replace(plan, shards=(replace(plan.shards[0], pin="xxh3:0"),)).run_id({}, "metaclip1"),
    ]
    assert len({run_id, *others}) == len(others) + 1


def test_dedup_is_kept_and_determines_the_counts_but_not_its_partitions(parquet_pool: Path) -> None:
    plan = make(parquet_pool)
    assert b'"dedup":' not in plan.to_bytes()
    plans = [replace(plan, dedup=Dedup(by, 3)) for by in KINDS]
    assert [RunPlan.from_bytes(one.to_bytes()) for one in plans] == plans
    ids = {one.run_id({"all": "f"}, "metaclip1") for one in [plan, *plans]}
    assert len(ids) == 3
    other = replace(plan, dedup=Dedup("uid", 9)).run_id({"all": "f"}, "metaclip1")
    assert other == plans[0].run_id({"all": "f"}, "metaclip1")
    made = RunPlan.make([str(parquet_pool)], Columns(), 4, None, "uid")
    assert made.dedup == Dedup("uid", 3)


IDENTIFIED = LanguageChoice(CodeMap.for_metadata(["en"]), IdentifierModel("a" * 32, "m.ftz"))
BY_COLUMN = LanguageChoice(CodeMap.for_metadata(["en"], {"tlh": "en"}))


def test_how_languages_are_found_is_kept_and_determines_the_counts(parquet_pool: Path) -> None:
    plan = RunPlan.make([str(parquet_pool)], Columns(lang="site"), 10, BY_COLUMN)
    assert plan.columns.needs_lang
    assert RunPlan.from_bytes(plan.to_bytes()) == plan
    choices = [None, BY_COLUMN, IDENTIFIED, replace(IDENTIFIED, model=IdentifierModel("b" * 32))]
    ids = {replace(plan, languages=choice).run_id({"en": "f"}, "metaclip1") for choice in choices}
    assert len(ids) == len(choices)


def test_languages_need_a_column_or_an_identifier(parquet_pool: Path) -> None:
    with pytest.raises(PoolError, match="no language column"):
        RunPlan.make([str(parquet_pool)], Columns(), 10, BY_COLUMN)
    assert RunPlan.make([str(parquet_pool)], Columns(), 10, IDENTIFIED).languages == IDENTIFIED


def test_describes_a_tasks_inputs(parquet_pool: Path) -> None:
    plan = replace(make(parquet_pool), tasks=(Task((Slice(1, 2, 3), Slice(2))),))
    assert plan.describe_task(0) == [
        {"shard": "1.parquet", "first_group": 2, "num_groups": 3},
        {"shard": "2.parquet", "first_group": 0, "num_groups": 0},
    ]


def test_has_images(parquet_pool: Path, image_pool: Path) -> None:
    assert not make(parquet_pool).has_images
    assert make(image_pool).has_images
