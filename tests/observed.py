"""A small pool of known figures, sent through all services, and what they show meanwhile."""

import json
import os
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from clipcurate.cli.local import LocalStack, StackOptions, local_stack, redis_binary
from clipcurate.cli.options import run_request
from clipcurate.cli.processes import Child
from clipcurate.cli.submission import prepare
from clipcurate.datasets.request import EmissionRequest
from clipcurate.pools import Columns
from clipcurate.rpc.clients import LedgerClient, MatcherClient
from clipcurate.rpc.v1 import ledger_pb2 as pb
from tests.pools import write_metadata
from tests.ports import free_port
from tests.redis_servers import server
from tests.waiting import wait_until

SERVICES = ("counter", "matcher", "sampler", "trainer")
TASKS = 2
"""Match tasks: one per shard."""
REJECTED = {"no_text": 5, "malformed_record": 1, "invalid_utf8": 2}
DUPLICATE, UNMATCHED, KEPT = 4, 10, 50
CATS, HOUSES = 40, 20
"""Texts "a cat", which match `a`, `cat`, `a cat`, and "red house", which match as many."""
MATCHED = CATS + HOUSES
HITS = 3 * MATCHED
TEXT_BYTES = 5 * CATS + 9 * HOUSES + 12 * UNMATCHED
PAIRS = MATCHED + UNMATCHED + DUPLICATE + sum(REJECTED.values())
ENTRIES_PER_TASK = 3
CLIENT_TEXTS, CLIENT_HITS = ["a dog", "猫"], 4
"""What a client has matched: `a`, `dog`, `a dog` and `猫`."""


def write_pool(folder: Path) -> None:
    """Write a parquet and a jsonl shard of these figures."""
    folder.mkdir()
    texts = ["a cat"] * CATS + ["nothing here"] * UNMATCHED + [None] * REJECTED["no_text"]
    rows = [{"url": f"http://127.0.0.1/{n}", "text": text} for n, text in enumerate(texts)]
    again = rows[:DUPLICATE]
    pq.write_table(pa.Table.from_pylist(rows + again), folder / "a.parquet")
    houses = [{"url": f"http://127.0.0.1/house-{n}", "text": "red house"} for n in range(HOUSES)]
    lines = [json.dumps(row).encode() for row in houses]
    lines += [b"{"] * REJECTED["malformed_record"]
    lines += [b'{"url": "http://127.0.0.1/x", "text": "\xff"}'] * REJECTED["invalid_utf8"]
    (folder / "b.jsonl").write_bytes(b"\n".join(lines) + b"\n")


@dataclass(frozen=True)
class Span:
    """A span as it arrived, ids in hexadecimal."""

    service: str
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent: str
    links: tuple[tuple[str, str], ...]
    failed: bool
    attributes: Mapping[str, str | int]


class Collector:
    """Takes spans over OTLP/HTTP, as the OpenTelemetry Collector does."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/v1/traces"
                collector.spans += _spans(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource in request.resource_spans:
        about = {a.key: a.value.string_value for a in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    service=about["service.name"],
                    name=span.name,
                    kind=span.kind,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
                    failed=span.status.code == 2,
                    attributes={
                        a.key: a.value.string_value or a.value.int_value for a in span.attributes
                    },
                )


@dataclass
class Observed:
    """What was seen of a run whose last task, a training without images, cannot be done.

    Attributes:
        run: how it ended: blocked.
        metrics: what each service showed then; `counter-2` is another counter of the same Redis.
        afterwards: what the counter showed once the run was cancelled.
        logs: each service's lines.
        spans: all spans.
    """

    run: pb.Run
    metrics: dict[str, list[Metric]] = field(default_factory=dict)
    afterwards: list[Metric] = field(default_factory=list)
    logs: dict[str, list[str]] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)


def scrape(port: int) -> list[Metric]:
    """Return what Prometheus reads there."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        return list(text_string_to_metric_families(answer.read().decode()))


def values(families: Sequence[Metric], name: str) -> dict[tuple[str, ...], float]:
    """Return a sample's values by the values of its labels, in order of the labels' names."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name
    }


def observe(folder: Path) -> Observed:
    """Run the system once over the pool, traced, and look at everything that it shows."""
    collector = Collector()
    ports = {name: free_port() for name in (*SERVICES, "counter-2")}
    with pytest.MonkeyPatch.context() as patch, server(redis_binary()) as redis:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        for name in SERVICES:
            variable = f"CLIPCURATE_{name.upper()}_METRICS_LISTEN"
            patch.setenv(variable, f"127.0.0.1:{ports[name]}")
        metadata = write_metadata(folder / "metadata.json")
        options = StackOptions(
            folder / "state", 1, redis.url, trainer=True, metadata=(str(metadata),)
        )
        with local_stack(options) as stack, _second_counter(stack, redis.url, ports["counter-2"]):
            found = Observed(_run(stack, folder, metadata))
            found.metrics = {name: scrape(port) for name, port in ports.items()}
            with LedgerClient(stack.counter) as ledger:
                ledger.cancel_run(found.run.run_id)
            found.afterwards = scrape(ports["counter"])
    for name in SERVICES:
        path = folder / "state" / "logs" / f"{name}{'-0' if name == 'matcher' else ''}.log"
        found.logs[name] = path.read_text().splitlines()
    collector.close()
    found.spans = collector.spans
    return found


def _run(stack: LocalStack, folder: Path, metadata: Path) -> pb.Run:
    write_pool(folder / "pool")
    request = run_request(
        [str(folder / "pool")],
        Columns(),
        [str(metadata)],
        False,
        str(folder / "out"),
        task_rows=1,
        dedup="url",
    )
    wanted = prepare(request, [EmissionRequest("balanced", size=KEPT)])
    wanted.emissions[0].train.preset = "tiny"
    with MatcherClient(stack.addresses["matcher-0"]) as matcher:
        matcher.match_batch(CLIENT_TEXTS)
    with LedgerClient(stack.counter) as ledger:
        ledger.create_run(wanted.run_id, wanted.spec, wanted.emissions)
        *_, last = ledger.watch_run(wanted.run_id, 0.1)
    assert last.state == pb.RUN_STATE_BLOCKED
    return last


@contextmanager
def _second_counter(stack: LocalStack, url: str, port: int) -> Iterator[None]:
    ready = stack.options.state / "counter-2.address"
    settings = {
        "REDIS_URL": url,
        "METRICS_LISTEN": f"127.0.0.1:{port}",
        "READY_FILE": str(ready),
    }
    environment = {f"CLIPCURATE_COUNTER_{name}": value for name, value in settings.items()}
    command = stack.supervisor.children[0].command
    child = Child("counter-2", command, environment, stack.options.state / "logs" / "counter-2.log")
    stack.supervisor.start(child)
    wait_until(ready.exists, 60, f"a second counter listens ({os.getpid()})")
    yield
