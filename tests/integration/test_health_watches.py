"""Watching a service's health: as many as want to may, and the service goes on."""

from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from clipcurate.rpc.clients import open_channel
from clipcurate.rpc.server import Server
from clipcurate.rpc.settings import SecuritySettings, ServiceSettings
from tests.certificates import Authority, settings_of

THREADS, WATCHES = 4, 12
STATUS = health_pb2.HealthCheckResponse
REQUEST = health_pb2.HealthCheckRequest()
PATIENCE = 10
"""So many seconds any answer may take; a watch that waits for a thread gets none."""


@pytest.mark.parametrize("tls", [False, True], ids=["plaintext", "mutual TLS"])
def test_watches_hold_no_thread(tmp_path: Path, tls: bool) -> None:
    issue = Authority(tmp_path).issue
    own, theirs = [settings_of(issue(name)) if tls else {} for name in ("matcher", "node")]
    server = Server(
        ServiceSettings(listen="localhost:0", threads=THREADS, **own), ["clipcurate.v1.Matcher"]
    )
    security = SecuritySettings(**theirs) if tls else None
    with open_channel(server.start(), security) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        watches = [health.Watch(REQUEST, timeout=PATIENCE) for _ in range(WATCHES)]
        assert [next(watch).status for watch in watches] == [STATUS.NOT_SERVING] * WATCHES
        assert health.Check(REQUEST, timeout=PATIENCE).status == STATUS.NOT_SERVING
        server.set_ready(True)
        assert [next(watch).status for watch in watches] == [STATUS.SERVING] * WATCHES
        assert health.Check(REQUEST, timeout=PATIENCE).status == STATUS.SERVING
    server.grpc.stop(None).wait()
