"""Channels that are opened anew, on a real server; what the files hold is made up."""

import gc
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest

from clipcurate.rpc.certificates import PemFiles, Pems
from clipcurate.rpc.clients.renewing import RenewingChannel


class Calls(grpc.GenericRpcHandler):
    """Echoes what is asked; a stream goes on until its client leaves, and says so."""

    def __init__(self) -> None:
        self.left = threading.Event()

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        if details.method == "/calls/echo":
            return grpc.unary_unary_rpc_method_handler(lambda request, _: request)
        return grpc.unary_stream_rpc_method_handler(self._go_on)

    def _go_on(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        left = threading.Event()
        context.add_callback(left.set)
        yield request
        assert left.wait(60)
        self.left.set()


class Renewed:
    """Credentials that change, and the channels that were dialled with each."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.pems = Pems(b"1", None, None)
        self.dialled: list[weakref.ref[grpc.Channel]] = []
        files = cast(PemFiles, SimpleNamespace(current=lambda: self.pems))
        self.channel = RenewingChannel(self._dial, files)

    def _dial(self, _: Pems) -> grpc.Channel:
        channel = grpc.insecure_channel(self._address)
        self.dialled.append(weakref.ref(channel))
        return channel

    def alive(self) -> list[bool]:
        """Say of each channel whether anybody keeps it."""
        gc.collect()
        return [channel() is not None for channel in self.dialled]


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def renewed(calls: Calls) -> Iterator[Renewed]:
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((calls,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    found = Renewed(f"127.0.0.1:{port}")
    yield found
    found.channel.close()
    server.stop(None).wait()


def test_a_former_channel_goes_when_its_last_call_ends(renewed: Renewed) -> None:
    echo = renewed.channel.unary_unary("/calls/echo")
    seldom = renewed.channel.unary_unary("/calls/echo")
    stream = renewed.channel.unary_stream("/calls/stream")(b"x")
    assert (next(stream), seldom(b"a")) == (b"x", b"a")
    renewed.pems = Pems(b"2", None, None)
    assert echo(b"b") == b"b"
    assert renewed.alive() == [True, True]
    stream.cancel()
    del stream
    assert renewed.alive() == [False, True]


def test_to_close_it_cancels_calls_on_former_channels_too(renewed: Renewed, calls: Calls) -> None:
    stream = renewed.channel.unary_stream("/calls/stream")(b"x")
    assert next(stream) == b"x"
    renewed.pems = Pems(b"2", None, None)
    assert renewed.channel.unary_unary("/calls/echo").with_call(b"b")[0] == b"b"
    renewed.channel.close()
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert caught.value.code() is grpc.StatusCode.CANCELLED
    assert calls.left.wait(60)


def test_a_call_in_the_background_is_that_of_its_channel(renewed: Renewed) -> None:
    call = renewed.channel.unary_unary("/calls/echo").future(b"a")
    renewed.pems = Pems(b"2", None, None)
    assert call.result(timeout=60) == b"a"
    assert renewed.channel.unary_unary("/calls/echo")(b"b") == b"b"
    assert len(renewed.dialled) == 2
