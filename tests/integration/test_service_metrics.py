"""What real services show to Prometheus, against the known figures of a small pool."""

import re
from collections.abc import Iterator

import pytest
from prometheus_client.metrics_core import Metric

from tests import observed as known
from tests.conftest import ROOT
from tests.observed import SERVICES, Observed, values

WORKERS = ("matcher", "sampler", "trainer")
SECTIONS = {
    "Runs": ("counter",),
    "Counter": ("counter",),
    "Matcher": ("matcher",),
    "Workers": WORKERS,
    "Trainer": ("trainer",),
    "Every service": SERVICES,
}
Documented = dict[str, tuple[str, frozenset[str]]]
NO_BASE_UNITS = {"ms", "us", "ns", "milliseconds", "microseconds", "minutes", "hours", "days"}
NO_BASE_UNITS |= {"kb", "mb", "gb", "kib", "mib", "gib", "kilobytes", "megabytes", "percent"}
UNBOUNDED = {"emission", "worker", "client", "shard", "task", "peer", "lease", "trace_id"}


@pytest.fixture(scope="module")
def catalogue() -> dict[str, Documented]:
    """Type and labels of each metric that the documentation promises, by service."""
    found: dict[str, Documented] = {name: {} for name in SERVICES}
    text = (ROOT / "docs" / "operations" / "metrics.md").read_text()
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        services = SECTIONS.get(section.partition("\n")[0], ())
        for row in re.finditer(r"^\| `(\w+)` \| (\w+) \|([\w, ]*)\|", section, re.MULTILINE):
            labels = frozenset(filter(None, re.split(r"[, ]+", row[3])))
            for service in services:
                found[service][row[1]] = (row[2], labels)
    return found


def ours(families: list[Metric]) -> Iterator[tuple[str, Metric]]:
    """Yield the families that are ours by their names in the text."""
    for family in families:
        if family.name.startswith("clipcurate_"):
            yield family.name + ("_total" if family.type == "counter" else ""), family


@pytest.mark.parametrize("service", SERVICES)
def test_the_catalogue_is_what_a_process_shows(
    observed: Observed, catalogue: dict[str, Documented], service: str
) -> None:
    families = dict(ours(observed.metrics[service]))
    types = {name: family.type for name, family in families.items()}
    assert types == {name: kind for name, (kind, _) in catalogue[service].items()}
    for name, family in families.items():
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} == catalogue[service][name][1], name


@pytest.mark.parametrize("service", SERVICES)
def test_names_follow_prometheus_s_conventions(observed: Observed, service: str) -> None:
    for name, family in ours(observed.metrics[service]):
        assert re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]", name), name
        assert family.documentation, name
        assert not NO_BASE_UNITS & set(name.split("_")), name
        assert not name.endswith(("_count", "_sum", "_bucket", "_created")), name
        if family.type != "counter":  # whose service is called so, too
            assert not name.endswith("_total"), name
            assert family.type not in name.split("_"), name
        for sample in family.samples:
            assert not UNBOUNDED & sample.labels.keys(), name
            assert not sample.name.endswith("_created"), sample.name


def test_every_process_shows_itself(observed: Observed) -> None:
    for service in SERVICES:
        families = observed.metrics[service]
        ((_, found),) = values(families, "clipcurate_build_info")
        assert values(families, "clipcurate_build_info") == {(service, found): 1}
        assert values(families, "process_resident_memory_bytes")[()] > 1e6
        assert values(families, "python_info")


def test_the_counter_shows_the_run_as_it_stands(observed: Observed) -> None:
    families, run = observed.metrics["counter"], observed.run.run_id
    figures = {"pairs": known.PAIRS, "hits": known.HITS, "run_pairs_planned": known.PAIRS}
    figures |= {"run_pairs_announced": known.PAIRS, "run_converged": 1, "run_frozen_ratio": 1}
    figures |= {"run_lag_seconds": 0}  # what is blocked waits for an operator
    for name, value in figures.items():
        assert values(families, f"clipcurate_{name}") == {(run,): value}, name
    assert values(families, "clipcurate_run_rejected_pairs") == {
        (reason, run): pairs for reason, pairs in known.REJECTED.items()
    }
    outcomes = {
        "rejected": sum(known.REJECTED.values()),
        "filtered": 0,
        "duplicate": known.DUPLICATE,
        "unmatched": known.UNMATCHED,
        "not_chosen": 0,
        "dropped": known.MATCHED - known.KEPT,
        "kept": known.KEPT,
    }
    shown = values(families, "clipcurate_run_pairs_outcome")
    assert shown == {(outcome, run): pairs for outcome, pairs in outcomes.items()}
    assert sum(shown.values()) == known.PAIRS


def test_the_counter_shows_tasks_by_stage_and_state(observed: Observed) -> None:
    tasks = values(observed.metrics["counter"], "clipcurate_tasks")
    done = {stage: number for (_, stage, state), number in tasks.items() if state == "done"}
    assert {"keys", "dedup", "match", "freeze", "score", "plan", "write", "publish"} < set(done)
    assert (done["match"], done["score"], done["train"]) == (known.TASKS, known.TASKS, 0)
    undone = {key[1:]: number for key, number in tasks.items() if key[2] != "done" and number}
    assert undone == {("train", "blocked"): 1}


def test_two_counters_of_one_redis_show_the_same_of_it(observed: Observed) -> None:
    mine, other = (dict(ours(observed.metrics[name])) for name in ("counter", "counter-2"))
    of_runs = [name for name in mine if name.startswith(("clipcurate_run", "clipcurate_tasks"))]
    for name in [*of_runs, "clipcurate_pairs", "clipcurate_hits", "clipcurate_redis_up"]:
        assert mine[name].samples == other[name].samples, name


def test_what_is_over_vanishes(observed: Observed) -> None:
    left = [s for _, family in ours(observed.afterwards) for s in family.samples]
    assert observed.run.run_id not in {sample.labels.get("run") for sample in left}
    assert values(observed.afterwards, "clipcurate_runs_active") == {(): 0}
    assert values(observed.afterwards, "clipcurate_redis_up") == {(): 1}


def test_the_matcher_counts_texts_of_tasks_and_of_clients(observed: Observed) -> None:
    families = observed.metrics["matcher"]
    client_bytes = sum(len(text.encode()) for text in known.CLIENT_TEXTS)
    expected = {
        "texts": known.MATCHED + known.UNMATCHED + len(known.CLIENT_TEXTS),
        "text_bytes": known.TEXT_BYTES + client_bytes,
        "hits": known.HITS + known.CLIENT_HITS,
    }
    for name, value in expected.items():
        assert values(families, f"clipcurate_matcher_{name}_total") == {(): value}, name


def test_flushes_and_increments_are_those_of_the_match_tasks(observed: Observed) -> None:
    families = observed.metrics["counter"]
    flushes = values(families, "clipcurate_counter_flush_seconds_count")[()]
    assert 1 <= flushes <= known.TASKS
    increments = values(families, "clipcurate_counter_increments_total")
    assert increments == {(): known.ENTRIES_PER_TASK * known.TASKS}
    counted = values(families, "clipcurate_grpc_calls_total")
    assert counted["OK", "/clipcurate.v1.Counter/CountTask"] == known.TASKS
    in_flight = values(families, "clipcurate_grpc_calls_in_flight")
    assert in_flight["/clipcurate.v1.Counter/CountTask",] == 0


def test_workers_count_the_tasks_that_the_ledger_has_done(observed: Observed) -> None:
    tasks = values(observed.metrics["counter"], "clipcurate_tasks")
    expected = {(s, state): n for (_, s, state), n in tasks.items() if state == "done" and n}
    found: dict[tuple[str, str], float] = {}
    for service in WORKERS:
        families = observed.metrics[service]
        ended = values(families, "clipcurate_worker_tasks_total")
        found |= {(stage, outcome): number for (outcome, stage), number in ended.items()}
        timed = values(families, "clipcurate_worker_task_seconds_count")
        assert sum(timed.values()) == sum(ended.values()) > 0
        assert values(families, "clipcurate_worker_busy") == {(): 0}
    assert found == expected | {("train", "failed"): 1}
