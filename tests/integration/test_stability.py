"""Windows of drift over a real Redis, against the formula written out."""

import numpy as np
import numpy.typing as npt
import pytest

from clipcurate.rpc.v1 import ledger_pb2 as pb
from services.counter.counts import CountStore
from services.counter.ledger import Ledger
from services.counter.run_metrics import RunCollector
from services.counter.stability import Stability
from services.counter.store import Store, run_prefix
from services.counter.windows import WindowStore

RUN = "run-1"
SIZES = {"de": 9000, "fr": 20_000}
"""Without English, t is the same for all languages."""
TASKS = 8
PAIRS = 4000
T = 30.0


def spec(share: float = 0.25) -> pb.RunSpec:
    metadata = [pb.MetadataRef(language=name, num_entries=size) for name, size in SIZES.items()]
    rule = pb.StabilitySpec(epsilon=0.5, windows=2, window_share=share)
    return pb.RunSpec(
        output_url="/nowhere", num_tasks=TASKS, metadata=metadata, stability=rule, planned_rows=80
    )


def emission(**target: float) -> pb.EmissionSpec:
    return pb.EmissionSpec(kind=pb.EMISSION_KIND_BALANCED, **target)  # type: ignore[arg-type]


@pytest.fixture
def stability(store: Store, ledger: Ledger, count_store: CountStore) -> Stability:
    return Stability(store, ledger, count_store)


Hits = dict[str, npt.NDArray[np.int64]]


def hits_of(task: int) -> Hits:
    """Return how many of a task's pairs match each entry: a few many, most none."""
    rng = np.random.default_rng(task)
    found = {}
    for name, size in SIZES.items():
        ids = np.minimum(rng.zipf(1.3, 6000) - 1, size - 1)
        found[name] = np.bincount(ids, minlength=size).astype(np.int64)
    return found


def count(ledger: Ledger, counts: CountStore, tasks: int = 1) -> list[Hits]:
    """Count some tasks as the service does, but for what is tested here."""
    counted = []
    for _ in range(tasks):
        lease = ledger.claim("a", [pb.STAGE_MATCH])
        assert lease is not None
        hits = hits_of(lease.task.index)
        adds = {}
        for name, array in hits.items():
            ids = np.flatnonzero(array)
            adds[name] = (ids.astype(np.uint32), array[ids].astype(np.uint32))
        counts.add(RUN, SIZES, {lease.task.index: adds})
        sums = {name: int(array.sum()) for name, array in hits.items()}
        result = pb.MatchResult(pairs=PAIRS, planned_rows=10, hits=sums)
        ledger.complete(lease, pb.TaskResult(match=result))
        counted.append(hits)
    return counted


def share_that_changes(before: list[Hits], after: list[Hits], t: float | None) -> float:
    """Σ f_e · |Δp_e|; without t, for the t at which this is largest for the entry."""
    total = 0.0
    for name in SIZES:
        raw = [np.sum([task[name] for task in hits], axis=0) for hits in (before, after)]
        scaled = (raw[0] * TASKS / len(before), raw[1] * TASKS / len(after))
        counts = [np.maximum(1, np.rint(one)) for one in scaled]
        best = np.minimum(*counts) if t is None else t
        change = np.abs(np.minimum(1, best / counts[0]) - np.minimum(1, best / counts[1]))
        total += float((raw[1] / (len(after) * PAIRS) * change).sum())
    return total


def test_windows_end_every_so_many_tasks_and_say_how_much_changed(
    ledger: Ledger, count_store: CountStore, stability: Stability
) -> None:
    ledger.create(RUN, spec(), [])
    counted: list[Hits] = []
    for _ in range(6):
        counted += count(ledger, count_store)
        stability.observe(RUN)
        stability.observe(RUN)
    found = ledger.run(RUN).stability_progress
    assert (found.pairs_seen, found.pairs_announced) == (6 * PAIRS, TASKS * PAIRS)
    assert (found.window_tasks, found.windows_wanted, found.epsilon) == (2, 2, 0.5)
    assert len(found.drifts) == 2


@pytest.mark.parametrize("wanted", [(), (T,), (T, 5 * T)])
def test_drift_is_the_formula_at_the_emission_where_it_is_largest(
    ledger: Ledger, count_store: CountStore, stability: Stability, wanted: tuple[float, ...]
) -> None:
    ledger.create(RUN, spec(), [emission(t=t) for t in wanted])
    first = count(ledger, count_store, 2)
    stability.observe(RUN)
    assert not ledger.run(RUN).stability_progress.drifts
    second = count(ledger, count_store, 2)
    stability.observe(RUN)
    both = [*first, *second]
    expected = max(share_that_changes(first, both, t) for t in wanted or (None,))
    assert ledger.run(RUN).stability_progress.drifts == pytest.approx([expected])


def test_a_run_is_converged_when_enough_windows_in_a_row_are_below(
    ledger: Ledger, count_store: CountStore, stability: Stability
) -> None:
    ledger.create(RUN, spec(), [emission(t=T)])
    seen = []
    for _ in range(TASKS - 1):
        count(ledger, count_store)
        stability.observe(RUN)
        run = ledger.run(RUN)
        seen.append((run.stability, run.stability_progress.windows_below))
    counting, converged = pb.STABILITY_COUNTING, pb.STABILITY_CONVERGED
    assert seen == [*[(counting, 0)] * 3, *[(counting, 1)] * 2, *[(converged, 2)] * 2]
    count(ledger, count_store)
    assert ledger.run(RUN).stability == pb.STABILITY_COMPLETE


def test_a_window_whose_counts_redis_has_lost_starts_again(
    ledger: Ledger, count_store: CountStore, stability: Stability, store: Store
) -> None:
    ledger.create(RUN, spec(), [emission(t=T)])
    for _ in range(2):
        count(ledger, count_store, 2)
        stability.observe(RUN)
    store.redis.delete(next(store.redis.scan_iter(run_prefix(RUN) + "window:*")))
    count(ledger, count_store, 2)
    stability.observe(RUN)
    assert len(ledger.run(RUN).stability_progress.drifts) == 1


def test_of_two_counters_that_end_a_window_one_does_and_nothing_is_left(
    ledger: Ledger, count_store: CountStore, stability: Stability, store: Store
) -> None:
    ledger.create(RUN, spec(), [emission(t=T)])
    windows = WindowStore(store)
    before = windows.state(RUN)
    count(ledger, count_store, 2)
    stability.observe(RUN)
    after = windows.state(RUN)
    raw = {name: count_store.read(RUN, name, size) for name, size in SIZES.items()}
    assert not windows.close(RUN, before, after, raw)
    assert windows.state(RUN) == after
    found = windows.counts(RUN, after, SIZES)
    assert found is not None
    assert all(np.array_equal(found[name], raw[name]) for name in SIZES)
    kept = set(store.redis.scan_iter(run_prefix(RUN) + "window:*"))
    assert len(kept) == sum(-(-size // 8192) for size in SIZES.values())


def test_metrics_show_the_last_window(
    ledger: Ledger, count_store: CountStore, stability: Stability, store: Store
) -> None:
    ledger.create(RUN, spec(), [emission(t=T)])
    for _ in range(3):
        count(ledger, count_store, 2)
        stability.observe(RUN)
    samples = [s for metric in RunCollector(ledger, store).collect() for s in metric.samples]
    names = ("drift_ratio", "windows_below_epsilon", "pairs_announced", "converged")
    shown = {f"clipcurate_run_{name}" for name in names}
    found = {s.name: s.value for s in samples if s.name in shown}
    assert {s.labels["run"] for s in samples if "run" in s.labels} == {RUN}
    assert found == {
        "clipcurate_run_drift_ratio": ledger.run(RUN).stability_progress.drifts[-1],
        "clipcurate_run_windows_below_epsilon": 2,
        "clipcurate_run_pairs_announced": TASKS * PAIRS,
        "clipcurate_run_converged": 1,
    }
