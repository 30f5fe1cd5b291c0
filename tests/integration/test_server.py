"""The server bootstrap and the clients, over real sockets."""

import logging
import threading
import urllib.request
from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from prometheus_client import REGISTRY

from clipcurate.errors import ClipcurateError, ConflictError, InvalidInputError, UnavailableError
from clipcurate.rpc.clients import MatcherClient, open_channel
from clipcurate.rpc.server import Server
from clipcurate.rpc.settings import ServiceSettings
from clipcurate.rpc.v1 import matcher_pb2, matcher_pb2_grpc
from tests.chaos.links import Links, Mode
from tests.waiting import wait_until

NAME = "clipcurate.v1.Matcher"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Faulty(matcher_pb2_grpc.MatcherServicer):
    """Fails in every way that a service can fail."""

    def MatchBatch(self, request: matcher_pb2.MatchBatchRequest, context: object) -> object:
        raise InvalidInputError("a text names the remedy")

    def ListMetadata(self, request: matcher_pb2.ListMetadataRequest, context: object) -> object:
        raise RuntimeError("a secret that must not travel")

    def MatchStream(self, requests: Iterator[object], context: object) -> Iterator[object]:
        yield matcher_pb2.MatchStreamResponse(batch_id=7, hits={"row_offsets": [0]})
        raise InvalidInputError("in the middle of a stream")


def serve(settings: ServiceSettings) -> tuple[Server, str]:
    server = Server(settings, [NAME])
    matcher_pb2_grpc.add_MatcherServicer_to_server(Faulty(), server.grpc)
    return server, server.start()


@pytest.fixture
def server() -> Iterator[tuple[Server, str]]:
    server, address = serve(ServiceSettings(drain_seconds=1.0))
    yield server, address
    server.grpc.stop(None).wait()


def health(address: str, service: str = NAME) -> int:
    with open_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        return health_pb2_grpc.HealthStub(channel).Check(request, timeout=5).status


def test_health_is_not_serving_until_ready_and_again_when_stopping(
    server: tuple[Server, str],
) -> None:
    running, address = server
    assert health(address) == health(address, "") == NOT_SERVING
    running.set_ready(True)
    assert health(address) == health(address, "") == SERVING
    running.stopping.set()
    running.wait()
    assert health(address) == NOT_SERVING
    running.set_ready(True)
    assert health(address) == NOT_SERVING


def test_reflection_lists_the_services_where_it_is_wanted() -> None:
    server, address = serve(ServiceSettings(reflection=True))
    with open_channel(address) as channel:
        found = ProtoReflectionDescriptorDatabase(channel).get_services()
    assert {NAME, "grpc.health.v1.Health"} <= set(found)
    server.grpc.stop(None).wait()


def test_reflection_is_off_unless_wanted(server: tuple[Server, str]) -> None:
    with open_channel(server[1]) as channel:
        with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
            list(ProtoReflectionDescriptorDatabase(channel).get_services())


def test_our_errors_arrive_as_they_were_raised(server: tuple[Server, str]) -> None:
    with MatcherClient(server[1]) as client:
        with pytest.raises(InvalidInputError, match=r"^a text names the remedy$"):
            client.match_batch(["x"])
        replies = client.match_stream([["x"]])
        assert len(next(replies)) == 0
        with pytest.raises(InvalidInputError, match="in the middle"):
            next(replies)


def test_a_defect_is_logged_and_does_not_travel(
    server: tuple[Server, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    with MatcherClient(server[1]) as client:
        with pytest.raises(ClipcurateError) as caught:
            client.list_metadata()
    assert "secret" not in str(caught.value)
    assert "INTERNAL" in str(caught.value)
    assert "secret" in caplog.text


def test_a_port_in_use_is_said(server: tuple[Server, str]) -> None:
    with pytest.raises(ConflictError, match="in use"):
        serve(ServiceSettings(listen=server[1]))


def test_a_service_that_is_not_there_is_unavailable() -> None:
    with (
        MatcherClient("127.0.0.1:1") as client,
        pytest.raises(UnavailableError, match=r"is the service up\?"),
    ):
        client.list_metadata()


def test_metrics_count_calls() -> None:
    server, address = serve(ServiceSettings(metrics_listen="127.0.0.1:0"))
    with MatcherClient(address) as client, pytest.raises(InvalidInputError):
        client.match_batch(["x"])
    url = f"http://{server.metrics_address}/metrics"
    with urllib.request.urlopen(url, timeout=5) as response:
        text = response.read().decode()
    method = 'method="/clipcurate.v1.Matcher/MatchBatch"'
    assert f'clipcurate_grpc_calls_total{{code="INVALID_ARGUMENT",{method}}}' in text
    assert f"clipcurate_grpc_call_seconds_count{{{method}}}" in text
    server.close_metrics()
    server.grpc.stop(None).wait()


def test_a_stream_that_its_client_leaves_is_counted_as_cancelled() -> None:
    class Endless(matcher_pb2_grpc.MatcherServicer):
        def MatchStream(self, requests: object, context: object) -> Iterator[object]:
            while True:
                yield matcher_pb2.MatchStreamResponse(hits={"row_offsets": [0]})

    def value(name: str, **labels: str) -> float:
        labels |= {"method": "/clipcurate.v1.Matcher/MatchStream"}
        return REGISTRY.get_sample_value(f"clipcurate_grpc_{name}", labels) or 0

    server = Server(ServiceSettings(), [NAME])
    matcher_pb2_grpc.add_MatcherServicer_to_server(Endless(), server.grpc)
    before = value("calls_total", code="CANCELLED")
    with MatcherClient(server.start()) as client:
        replies = client.match_stream([["x"]])
        assert len(next(replies)) == 0
        assert value("calls_in_flight") == 1
        replies.close()
        wait_until(lambda: value("calls_total", code="CANCELLED") > before, 10, "the call ends")
        assert value("calls_in_flight") == 0
    server.grpc.stop(None).wait()


def test_a_metrics_port_in_use_is_said() -> None:
    server, _ = serve(ServiceSettings(metrics_listen="127.0.0.1:0"))
    with pytest.raises(ConflictError, match="cannot serve metrics"):
        serve(ServiceSettings(metrics_listen=server.metrics_address))
    server.close_metrics()
    server.grpc.stop(None).wait()


def test_calls_in_flight_end_before_the_server_does() -> None:
    entered, leave = threading.Event(), threading.Event()

    class Slow(matcher_pb2_grpc.MatcherServicer):
        def ListMetadata(self, request: object, context: object) -> object:
            entered.set()
            leave.wait(5)
            return matcher_pb2.ListMetadataResponse()

    replies: list[object] = []
    server = Server(ServiceSettings(drain_seconds=5.0), [NAME])
    matcher_pb2_grpc.add_MatcherServicer_to_server(Slow(), server.grpc)
    with MatcherClient(server.start()) as client:
        calling = threading.Thread(target=lambda: replies.append(client.list_metadata()))
        calling.start()
        assert entered.wait(5)
        closing = threading.Thread(target=lambda: server.__exit__(None, None, None))
        closing.start()
        leave.set()
        closing.join()
        calling.join()
    assert replies == [[]]


def test_a_connection_that_is_gone_without_a_word_is_replaced(server: tuple[Server, str]) -> None:
    links = Links()
    port = links.open("client>server", int(server[1].rpartition(":")[2]))
    with MatcherClient(f"127.0.0.1:{port}") as client:
        with pytest.raises(InvalidInputError, match="names the remedy"):
            client.match_batch(["a text"])
        with links.broken("client>server", Mode.LOST):
            with pytest.raises(InvalidInputError, match="names the remedy"):
                client.match_batch(["a text"])
    links.close()
