"""The capacity guide says what its script computes, and the script what can be done by hand."""

import importlib.util
from types import ModuleType

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def capacity() -> ModuleType:
    """The script, which lies outside every package."""
    spec = importlib.util.spec_from_file_location("capacity", ROOT / "benchmarks" / "capacity.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_guide_holds_the_table_and_the_figures_of_the_script(capacity: ModuleType) -> None:
    guide = (ROOT / "docs" / "operations" / "capacity.md").read_text()
    found = capacity.measured()
    columns = [capacity.Wanted(pairs) for pairs in capacity.PAIRS]
    assert capacity.table(columns, found) in guide
    assert capacity.listed(found) in guide


@pytest.mark.parametrize(
    ("row", "value"),
    [
        ("tasks", "3,600"),
        ("core-hours to match", "2"),  # 3.6e9 pairs of 2 us
        ("core-hours to sample", "2"),  # 1 us, and 2 us for each of the half that is kept
        ("matchers of one core", "4"),  # in an hour, half of it busy
        ("minutes to match", "60"),
        ("tasks delivered per second", "1"),  # 3,600 in an hour
        ("counters", "4"),  # of half a task per second each, half busy
        ("Redis, held in memory", "19 MB"),  # 2 x 4.06 MB of counts, 10,800 tasks of 1 kB
        ("Redis, written in all", "18 GB"),
        ("match indexes", "360 GB"),
        ("scores", "36 GB"),
        ("dataset", "90 GB"),
    ],
)
def test_a_row_is_what_can_be_computed_by_hand(row: str, value: str, capacity: ModuleType) -> None:
    figures = capacity.Figures(
        match_us_per_pair=2.0,
        sample_us_per_pair=1.0,
        sample_us_per_kept_pair=2.0,
        index_bytes_per_pair=100,
        score_bytes_per_pair=10,
        dataset_bytes_per_kept_pair=50,
        counted_tasks_per_second=0.5,
        redis_bytes_per_task=1000,
        redis_written_mb_per_task=5.0,
    )
    assert capacity.needs(capacity.Wanted(3.6e9, kept=0.5), figures)[row] == value
