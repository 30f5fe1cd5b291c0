"""Calls with many responses, while their server fails or dies."""

import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import grpc
import pytest

from clipcurate.cli.local import serves
from clipcurate.errors import UnavailableError
from clipcurate.rpc.clients import LedgerClient
from clipcurate.rpc.server import Server
from clipcurate.rpc.settings import ServiceSettings
from clipcurate.rpc.v1 import ledger_pb2 as pb
from clipcurate.rpc.v1 import ledger_pb2_grpc
from tests.integration.conftest import INSTALLED
from tests.integration.test_counters import counter
from tests.redis_servers import binary, server

SPEC = pb.RunSpec(output_url="/o", num_tasks=2, metadata=[pb.MetadataRef(num_entries=9)])


class Away(ledger_pb2_grpc.LedgerServicer):
    """Is away for the first calls, before or after a response, and counts them."""

    def __init__(self, times: int, responses: int) -> None:
        self.times = times
        self.responses = responses
        self.calls = 0

    def ListTasks(
        self, request: pb.ListTasksRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ListTasksResponse]:
        self.calls += 1
        if self.calls <= self.times:
            for _ in range(self.responses):
                yield pb.ListTasksResponse()
            raise UnavailableError("away")
        yield pb.ListTasksResponse(tasks=[pb.TaskRecord(failures=7)])


def listed(away: Away) -> list[int]:
    services = Server(ServiceSettings(), ["clipcurate.v1.Ledger"])
    ledger_pb2_grpc.add_LedgerServicer_to_server(away, services.grpc)
    try:
        with LedgerClient(services.start()) as ledger:
            return [task.failures for task in ledger.list_tasks("run", pb.STAGE_MATCH)]
    finally:
        services.grpc.stop(None).wait()


@pytest.mark.parametrize("times", [0, 1, 3])
def test_a_stream_that_fails_at_its_start_is_made_again(times: int) -> None:
    away = Away(times, responses=0)
    assert listed(away) == [7]
    assert away.calls == times + 1


@pytest.mark.parametrize(("times", "responses", "calls"), [(4, 0, 4), (1, 1, 1)])
def test_it_is_given_up_after_four_attempts_and_in_its_middle(
    times: int, responses: int, calls: int
) -> None:
    away = Away(times, responses)
    with pytest.raises(UnavailableError, match="away"):
        listed(away)
    assert away.calls == calls


def test_no_stream_waits_for_a_server_that_was_killed(tmp_path: Path) -> None:
    """gRPC's own retries leave about one in a hundred such streams without an end."""

    def read(address: str) -> None:
        with LedgerClient(address) as ledger:
            while time.monotonic() < end:
                with suppress(UnavailableError):
                    assert len(list(ledger.list_tasks("run", pb.STAGE_MATCH))) == 2

    with server(binary(INSTALLED[0])) as redis, counter(tmp_path, "c", redis) as (address, child):
        child.environment = {**child.environment, "CLIPCURATE_COUNTER_LISTEN": address}
        assert serves(address, 60)
        with LedgerClient(address) as ledger:
            ledger.create_run("run", SPEC, [])
        end = time.monotonic() + 30
        readers = [Thread(target=read, args=(address,), daemon=True) for _ in range(6)]
        for reader in readers:
            reader.start()
        while time.monotonic() < end:
            time.sleep(0.3)
            if child.process is not None and serves(address, 1):
                child.process.send_signal(signal.SIGKILL)
                child.process.wait()
                child.start()
        for reader in readers:
            reader.join(20)
        assert not any(reader.is_alive() for reader in readers)
