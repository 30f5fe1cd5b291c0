"""A real Prometheus scrapes the real services while a pool goes through; the dashboard has data."""

import time
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT
from tests.deploy.compose import SERVICES, Compose, engine, open_to_all, require_engine
from tests.deploy.observed import Prometheus, filled, rules, targets
from tests.pools import make_pool, write_metadata
from tests.waiting import wait_until

STAND_IN = "clipcurate/prometheus:test"
PARTS = 60
ROWS = 60
"""Of each part of the pool, some 15 tasks: so many that several scrapes see each stage."""
EMPTY_WITHOUT = {
    "Matching ends in": "minutes of matching",
    "Loss": "a training",
    "Pairs per second": "a training",
    "Share of the device's peak (MFU)": "a training",
    "Steps taken": "a training",
    "Learning rate": "a training",
    "Logit scale": "a training",
    "Evaluation": "a training",
    "Lost leases and failed tasks per minute": "a worker that dies",
    "gRPC calls that failed": "a call that fails",
}
"""Panels that say nothing of this run, for want of what."""

pytestmark = pytest.mark.timeout(1500)  # builds all images, if they are not there yet


class Observed(Compose):
    """The compose project with its layer of Prometheus, and a stand-in for its image."""

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "PROMETHEUS_IMAGE": STAND_IN}


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    """The services, three matchers, and Prometheus; all healthy."""
    require_engine()
    folder = tmp_path_factory.mktemp("data")
    for part in range(PARTS):
        make_pool(folder / "pool" / f"{part:02}", ROWS, seed=part)
    (folder / "pool" / "rejected.jsonl").write_text('{"url": "http://example.org/1", "text": null}')
    write_metadata(folder / "metadata.json")
    open_to_all(folder)
    engine("build", "--quiet", "--tag", STAND_IN, str(ROOT / "tests" / "deploy" / "prometheus"))
    layered = Observed(folder, (ROOT / "docker-compose.observability.yml",))
    with layered.running("--scale", "matcher=3", "prometheus") as compose:
        yield compose


@pytest.fixture(scope="module")
def prometheus(compose: Observed) -> Prometheus:
    """The Prometheus of the project, once it has found every container."""
    found = Prometheus(compose("port", "prometheus", "9090").stdout.strip())
    expected = {f"clipcurate-{name}": 3 if name == "matcher" else 1 for name in SERVICES}
    wait_until(lambda: found.healthy_targets() == expected, 60, f"{expected} are scraped")
    return found


@pytest.fixture(scope="module")
def period(compose: Observed, prometheus: Prometheus) -> tuple[float, float]:
    """From when to when a pool went through, with a few scrapes on either side."""
    assert prometheus.healthy_targets()
    start = time.time()
    words = ("--pool", "/data/pool", "--metadata", "/data/metadata.json", "--output", "/data/out")
    made = ("--emit", "balanced", "--t", "40", "--task-rows", "1")
    compose("run", "--rm", "-T", "client", "submit", "--watch", *words, *made)
    end = time.time()
    scraped = "min(timestamp(up))"
    wait_until(
        lambda: float(prometheus.get("query", query=scraped)["result"][0]["value"][1]) > end,
        60,
        "everything is scraped once more",
    )
    return start, end


def test_every_panel_that_this_run_concerns_has_data(
    prometheus: Prometheus, period: tuple[float, float]
) -> None:
    shown: dict[str, int] = {}
    for title, target in targets():
        found = prometheus.over(target["expr"], *period)
        shown[title] = shown.get(title, 0) + len(found)
    assert {title for title, series in shown.items() if not series} <= set(EMPTY_WITHOUT)
    assert set(EMPTY_WITHOUT) <= set(shown)


def test_the_figures_are_those_of_the_run(
    prometheus: Prometheus, period: tuple[float, float]
) -> None:
    by_title: dict[str, list[str]] = {}
    for title, target in targets():
        by_title.setdefault(title, []).append(target["expr"])
    (read,) = prometheus.over(by_title["Pairs read of those planned"][0], *period)
    assert max(float(value) for _, value in read["values"]) == 1
    (processes,) = (
        series
        for series in prometheus.over(by_title["Processes"][0], *period)
        if series["metric"]["job"] == "matcher"
    )
    assert {float(value) for _, value in processes["values"]} == {3}
    (matchers,) = by_title["Texts matched per second"]
    assert len(prometheus.over(matchers, *period)) == 3
    blocked = prometheus.over(by_title["Blocked tasks"][0], *period)
    assert {float(value) for series in blocked for _, value in series["values"]} == {0}


def test_rules_are_loaded_and_none_fires_in_a_run_without_faults(
    prometheus: Prometheus, period: tuple[float, float]
) -> None:
    (group,) = prometheus.get("rules")["groups"]
    wait_until(
        lambda: all(r["health"] == "ok" for r in prometheus.get("rules")["groups"][0]["rules"]),
        60,
        "every rule is evaluated",
    )
    assert [rule["name"] for rule in group["rules"]] == [rule["alert"] for rule in rules()]
    assert prometheus.over('ALERTS{alertstate="firing"}', *period) == []
    for rule in rules():
        assert prometheus.get("query", query=filled(rule["expr"]))["result"] == [], rule["alert"]
