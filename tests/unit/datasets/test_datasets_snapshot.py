import numpy as np
import pytest

from clipcurate.datasets import snapshot
from clipcurate.hashing import hash_bytes, hash_json

COUNTS = {
    "en": np.array([3, 0, 2**40], np.int64),
    "all": np.array([1], np.int64),
    "zh": np.zeros(2, np.int64),
}


def test_round_trip() -> None:
    again = snapshot.from_bytes(snapshot.to_bytes(COUNTS))
    assert again.keys() == COUNTS.keys()
    for name, counts in COUNTS.items():
        assert again[name].dtype == np.int64
        assert again[name].tolist() == counts.tolist()


def test_bytes_do_not_depend_on_the_order_of_languages() -> None:
    backwards = dict(reversed(COUNTS.items()))
    assert snapshot.to_bytes(backwards) == snapshot.to_bytes(COUNTS)
    assert snapshot.snapshot_id("r", [], backwards) == snapshot.snapshot_id("r", [], COUNTS)


def test_id_by_hand() -> None:
    counts = {"all": np.array([1, 258])}
    packed = hash_bytes(b"\x01" + b"\0" * 7 + b"\x02\x01" + b"\0" * 6)
    expected = hash_json({"run": "r", "quarantined": [[1]], "counts": {"all": packed}})
    assert snapshot.snapshot_id("r", [[1]], counts) == expected
    assert snapshot.snapshot_id("r", [[1]], {"all": counts["all"].astype(">i8")}) == expected


@pytest.mark.parametrize(
    ("run", "quarantined", "counts"),
    [
        ("s", [], COUNTS),
        ("r", [{"shard": "a"}], COUNTS),
        ("r", [], COUNTS | {"all": np.array([2])}),
        ("r", [], {"all": COUNTS["all"]}),
    ],
)
def test_id_names_run_quarantine_and_counts(run, quarantined, counts) -> None:  # type: ignore[no-untyped-def]
    assert snapshot.snapshot_id(run, quarantined, counts) != snapshot.snapshot_id("r", [], COUNTS)


def test_a_projection_is_stored_beside_the_counts_and_part_of_the_id() -> None:
    projection = snapshot.Projection(COUNTS, 10, 25)
    content = snapshot.to_bytes(projection.counts, projection)
    again = snapshot.projection_from_bytes(content)
    assert again is not None
    assert (again.seen, again.announced) == (10, 25)
    assert {name: raw.tolist() for name, raw in again.raw.items()} == {
        name: raw.tolist() for name, raw in COUNTS.items()
    }
    counts = {name: array.tolist() for name, array in snapshot.from_bytes(content).items()}
    assert counts == {"en": [8, 1, 5 * 2**39], "all": [2], "zh": [1, 1]}
    assert snapshot.projection_from_bytes(snapshot.to_bytes(COUNTS)) is None
    ids = [None, projection.identity(), projection.identity() | {"announced": 26}]
    assert len({snapshot.snapshot_id("r", [], COUNTS, about) for about in ids}) == 3


@pytest.mark.parametrize("tasks", [(0,), (2, 3, 17), tuple(range(16))])
def test_the_tasks_that_counts_are_of_are_stored_and_no_part_of_the_id(
    tasks: tuple[int, ...],
) -> None:
    projection = snapshot.Projection(COUNTS, 10, 25, tasks)
    again = snapshot.projection_from_bytes(snapshot.to_bytes(projection.counts, projection))
    assert again is not None
    assert again.tasks == tasks
    assert projection.identity() == snapshot.Projection(COUNTS, 10, 25).identity()


def test_a_sealed_id_by_hand() -> None:
    expected = hash_json({"snapshot": "s", "quarantined": [[1]]})
    assert snapshot.sealed_id("s", [[1]]) == expected
