"""Traces of real services, as a real collector gets them."""

import os
import subprocess
import sys

import pytest

from clipcurate.rpc import tracing
from clipcurate.rpc.log_line import LogLine
from tests.conftest import ROOT, CommandLine
from tests.observed import KEPT, TASKS, Collector, Observed, Span
from tests.ports import free_port

SERVER, CLIENT, CONSUMER = 2, 3, 5
COUNT_TASK = "clipcurate.v1.Counter/CountTask"
OFF = """
import sys
import services.matcher.__main__, services.sampler.__main__, services.trainer.__main__
from clipcurate.rpc import tracing
from clipcurate.rpc.clients import LedgerClient
tracing.start("matcher")
LedgerClient("127.0.0.1:1").close()
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""


def named(observed: Observed, name: str) -> list[Span]:
    return [span for span in observed.spans if span.name == name]


def children(observed: Observed, span: Span) -> list[Span]:
    return [s for s in observed.spans if (s.trace_id, s.parent) == (span.trace_id, span.span_id)]


def test_a_trace_of_a_task_spans_matcher_and_counter(observed: Observed) -> None:
    tasks = named(observed, "task match")
    assert len(tasks) == TASKS
    for task in tasks:
        assert (task.service, task.kind, task.parent) == ("clipcurate-matcher", CONSUMER, "")
        (call,) = [s for s in children(observed, task) if s.name == COUNT_TASK]
        assert (call.service, call.kind) == ("clipcurate-matcher", CLIENT)
        (served,) = children(observed, call)
        assert (served.service, served.kind, served.name) == (
            "clipcurate-counter",
            SERVER,
            COUNT_TASK,
        )
        assert served.attributes["rpc.service"] == "clipcurate.v1.Counter"
        assert served.attributes["rpc.grpc.status_code"] == 0
    flushed = [s for t in named(observed, COUNT_TASK) for s in children(observed, t)]
    flushes = [span for span in flushed if span.name == "flush"]
    assert sum(int(span.attributes["clipcurate.tasks"]) for span in flushes) == TASKS
    assert {span.service for span in flushes} == {"clipcurate-counter"}


def test_tasks_carry_what_names_them(observed: Observed) -> None:
    task = named(observed, "task write")[0]
    assert task.attributes["clipcurate.run"] == observed.run.run_id
    assert task.attributes["clipcurate.stage"] == "write"
    assert task.attributes["clipcurate.emission"] == observed.run.emissions[0].key
    assert {span.attributes["clipcurate.task"] for span in named(observed, "task match")} == {0, 1}
    assert observed.run.emissions[0].published.totals.kept == KEPT


def test_every_task_is_linked_to_the_call_that_made_its_run(observed: Observed) -> None:
    (created,) = named(observed, "clipcurate.v1.Ledger/CreateRun")
    tasks = [span for span in observed.spans if span.kind == CONSUMER]
    assert len({span.trace_id for span in tasks}) == len(tasks) > TASKS
    assert {span.links for span in tasks} == {((created.trace_id, created.span_id),)}


def test_lines_of_a_task_have_its_trace(observed: Observed) -> None:
    tasks = {span.span_id: span for span in observed.spans if span.kind == CONSUMER}
    for service in ("matcher", "sampler", "trainer"):
        lines = [LogLine.model_validate_json(line) for line in observed.logs[service]]
        ends = [line for line in lines if line.outcome]
        assert ends
        for line in ends:
            assert line.span_id is not None
            span = tasks[line.span_id]
            assert span.trace_id == line.trace_id
            assert (span.service, span.name) == (f"clipcurate-{service}", f"task {line.stage}")
            assert span.attributes["clipcurate.lease"] == line.lease


def test_only_what_failed_is_marked(observed: Observed) -> None:
    failed = {span.name for span in observed.spans if span.failed}
    assert failed == {"task train"}


def test_idle_polls_and_probes_are_not_traced(observed: Observed) -> None:
    names = {span.name for span in observed.spans}
    assert not [name for name in names if "ClaimTask" in name or "grpc.health" in name]


def test_the_command_line_is_traced_too(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    done = command_line("runs", "--server", f"127.0.0.1:{free_port()}")
    collector.close()
    assert done.returncode == 1
    (span,) = collector.spans
    assert (span.service, span.name) == ("clipcurate-cli", "clipcurate.v1.Ledger/ListRuns")
    assert span.failed


def test_a_collector_that_is_away_stops_no_work(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    done = command_line("runs", "--server", f"127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "is the service up?" in done.stderr


@pytest.mark.parametrize(
    "begin",
    [
        "import clipcurate.cli.app as app; sys.argv[1:] = ['--help']; app.main()",
        "from clipcurate.rpc.process import run_service; run_service('matcher', lambda: None)",
    ],
    ids=["command line", "service"],
)
def test_without_opentelemetry_all_goes_on_untraced(begin: str) -> None:
    missing = "import sys; sys.modules['opentelemetry.sdk'] = None; "
    done = subprocess.run(
        [sys.executable, "-c", missing + begin],
        env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert "pip install 'clipcurate[tracing]'" in line


def test_without_a_collector_nothing_of_opentelemetry_is_imported() -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", OFF],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("environment", "on"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_the_environment_switches_traces_on(environment: dict[str, str], on: bool) -> None:
    assert tracing.wanted(environment) is on
