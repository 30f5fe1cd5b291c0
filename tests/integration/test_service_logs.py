"""What real services log: every line is a `LogLine`, whoever speaks."""

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from clipcurate.kernels.entry import ahead_of_time
from clipcurate.rpc.log_line import LogLine
from clipcurate.rpc.logs import JsonFormatter
from tests.conftest import ROOT
from tests.observed import SERVICES, Observed

LIBRARY_TALK = """
import logging, threading, warnings
from clipcurate.rpc import logs
from clipcurate.rpc.process import run_service

def main():
    logging.getLogger("some.library").warning("odd: %s", "\\n", extra={"task": "theirs", "n": 1})
    warnings.warn("soon gone", DeprecationWarning)
    with logs.about(run="r", stage="match", task=3):
        logging.getLogger("services.matcher").info("ours", extra={"units": 7})
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    raise MemoryError("no more")

run_service("matcher", main)
"""

KERNELS_FOR_A_LATER_PROCESSOR = """
import runpy, sys
import clipcurate.kernels
from clipcurate.kernels import processors

clipcurate.kernels.__path__.append(sys.argv[1])
processors.flags_here = lambda: frozenset(processors.LEVELS["x86-64-v2"].split())
runpy.run_module(sys.argv[2], run_name="__main__")
"""

HANDSHAKE_FAILS = """
import services.matcher
import grpc
from concurrent.futures import ThreadPoolExecutor

server = grpc.server(ThreadPoolExecutor(1))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
with grpc.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials()) as channel:
    try:
        channel.unary_unary("/a/b")(b"", timeout=30)
    except grpc.RpcError as error:
        print(error.code().name)
server.stop(None).wait()
"""


def lines_of(text: str) -> list[LogLine]:
    return [LogLine.model_validate_json(line) for line in text.splitlines()]


@pytest.mark.parametrize("service", SERVICES)
def test_every_line_keeps_to_the_schema(observed: Observed, service: str) -> None:
    lines = [LogLine.model_validate_json(line) for line in observed.logs[service]]
    assert {line.service for line in lines} == {service}
    assert {"listening", "draining"} <= {line.message for line in lines}


def test_lines_of_a_task_name_it_and_its_worker(observed: Observed) -> None:
    lines = [LogLine.model_validate_json(line) for line in observed.logs["matcher"]]
    of_match = [line for line in lines if line.stage == "match"]
    assert {line.run for line in of_match} == {observed.run.run_id}
    ends = {line.shard: line for line in of_match if line.outcome}
    assert set(ends) == {"a.parquet", "b.jsonl"}
    assert [(line.task, line.outcome) for line in ends.values()] == [(0, "done"), (1, "done")]
    assert sum(line.units or 0 for line in ends.values()) == observed.run.pairs
    leases = {line.task: line.lease for line in of_match}
    for line in of_match:
        assert line.worker
        assert line.lease == leases[line.task]


def test_a_task_that_fails_says_why(observed: Observed) -> None:
    lines = [LogLine.model_validate_json(line) for line in observed.logs["trainer"]]
    (failed,) = [line for line in lines if line.level == "ERROR"]
    assert "no images" in failed.message
    assert (failed.stage, failed.exception) == ("train", None)
    assert failed.emission == observed.run.emissions[0].key
    (end,) = [line for line in lines if line.outcome]
    assert (end.outcome, end.task) == ("failed", failed.task)


def test_libraries_warnings_and_uncaught_errors_are_lines_too() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", LIBRARY_TALK],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    library, warned, ours, in_thread, last = lines_of(done.stderr)
    assert (library.logger, library.message) == ("some.library", "odd: \n")
    assert (library.task, library.other) == (None, {"task": "theirs", "n": "1"})
    assert (warned.logger, warned.level) == ("py.warnings", "WARNING")
    assert "soon gone" in warned.message
    assert (ours.run, ours.stage, ours.task, ours.units) == ("r", "match", 3, 7)
    assert in_thread.run is None
    for line, error in ((in_thread, "ZeroDivisionError"), (last, "MemoryError")):
        assert line.level == "CRITICAL"
        assert line.message.startswith(error)
        assert line.exception is not None
        assert "Traceback" in line.exception


def test_a_key_of_ours_that_is_not_in_the_schema_is_found() -> None:
    record = logging.makeLogRecord({"name": "services.matcher", "levelname": "INFO", "unheard": 1})
    with pytest.raises(ValidationError, match="unheard"):
        lines_of(JsonFormatter("matcher").format(record))


def start_matcher(**settings: str) -> subprocess.CompletedProcess[str]:
    environment = {f"CLIPCURATE_MATCHER_{name}": value for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-m", "services.matcher"],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=ROOT,
    )


def test_what_ends_a_service_at_its_start_is_one_line() -> None:
    wrong = "nowhere.invalid:x"
    done = start_matcher(METRICS_LISTEN=wrong)
    assert done.returncode == 1
    *_, last = lines_of(done.stderr)
    assert (last.level, last.exception) == ("CRITICAL", None)
    assert wrong in last.message


@pytest.mark.parametrize("service", ["matcher", "sampler"])
def test_kernels_for_a_later_processor_end_a_service_with_one_line(
    service: str, tmp_path: Path
) -> None:
    (tmp_path / f"{ahead_of_time('x86-64-v3')}.so").touch()  # which to load would be fatal
    own = f"CLIPCURATE_{service.upper()}_"
    done = subprocess.run(
        [sys.executable, "-c", KERNELS_FOR_A_LATER_PROCESSOR, tmp_path, f"services.{service}"],
        env=os.environ | {f"{own}LISTEN": "127.0.0.1:0", f"{own}COUNTER": "127.0.0.1:1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    *_, last = lines_of(done.stderr)
    assert (last.level, last.exception) == ("CRITICAL", None)
    assert "this processor lacks abm, avx, avx2," in last.message
    assert "build the image with KERNELS_CPU=x86-64-v2" in last.message


def test_logs_for_people_are_text() -> None:
    done = start_matcher(METRICS_LISTEN="nowhere", LOG_FORMAT="text")
    assert done.returncode == 1
    assert re.search(r"^\S+ \S+ CRITICAL matcher metrics_listen", done.stderr, re.MULTILINE)


def test_the_core_of_grpc_keeps_quiet() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "GRPC_VERBOSITY"}
    done = subprocess.run(
        [sys.executable, "-c", HANDSHAKE_FAILS],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout == "UNAVAILABLE\n"
    assert done.stderr == ""


def test_the_documentation_names_every_field_and_no_other() -> None:
    text = (ROOT / "docs" / "operations" / "logs.md").read_text()
    fields = text.partition("## Fields")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", fields, re.MULTILINE)) == set(LogLine.model_fields)


def test_the_schema_is_published_as_json_schema() -> None:
    schema = LogLine.model_json_schema()
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["time", "level", "service", "logger", "message"]
    described = [part["description"] for part in schema["properties"].values()]
    assert all(described)
    json.dumps(schema)
