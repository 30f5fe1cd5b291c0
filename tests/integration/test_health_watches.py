"""Watching a service's health: as many as want to may, and the service goes on."""

import socket
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
def test_watches_hold_no_thread_of_the_handlers(tmp_path: Path, tls: bool) -> None:
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


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame of HTTP/2."""
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags])
    return head + stream.to_bytes(4, "big") + payload


def literal(name: bytes, value: bytes) -> bytes:
    """One header, not compressed."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def watch_that_takes_nothing() -> bytes:
    """A call of Watch by a client whose window is 0, so that no answer can be sent to it."""
    headers = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": b"/grpc.health.v1.Health/Watch",
        b":authority": b"localhost",
        b"content-type": b"application/grpc",
        b"te": b"trailers",
    }
    window_of_0 = (4).to_bytes(2, "big") + bytes(4)
    settings = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, window_of_0)
    begun = frame(1, 4, 1, b"".join(literal(*header) for header in headers.items()))
    return settings + begun + frame(0, 1, 1, bytes(5))


def test_a_watcher_that_takes_nothing_holds_up_nobody() -> None:
    server = Server(ServiceSettings(listen="localhost:0"), ["clipcurate.v1.Matcher"])
    host, _, port = (address := server.start()).rpartition(":")
    with socket.create_connection((host, int(port)), PATIENCE) as stuck, open_channel(address) as c:
        stuck.sendall(watch_that_takes_nothing())
        answer = b""
        while b"content-type" not in answer:  # the service is about to send the first state
            answer += stuck.recv(4096)
        health = health_pb2_grpc.HealthStub(c)
        assert health.Check(REQUEST, timeout=PATIENCE).status == STATUS.NOT_SERVING
        server.set_ready(True)
        assert health.Check(REQUEST, timeout=PATIENCE).status == STATUS.SERVING
    server.grpc.stop(None).wait()
