import inspect
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from clipcurate import errors
from clipcurate.rpc.status import CODES, ERROR_KEY, code_of, error_from

ALL = [error for _, error in inspect.getmembers(errors, inspect.isclass)]
PASSING = [
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,  # by a server that stops
]
BY_NAME = {error.__name__: error for error in ALL}


@pytest.fixture(scope="module")
def channel() -> Iterator[grpc.Channel]:
    """A server that fails as it is told: "<status> <error name or nothing>"."""

    def fail(request: bytes, context: grpc.ServicerContext) -> bytes:
        code, _, name = request.decode().partition(" ")
        if name:
            context.set_trailing_metadata([(ERROR_KEY, name)])
        context.abort(grpc.StatusCode[code], "pool/ä.parquet: wrong; mend it")
        return b""

    handlers = grpc.method_handlers_generic_handler(
        "test.Failing", {"Fail": grpc.unary_unary_rpc_method_handler(fail)}
    )
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((handlers,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    server.stop(None).wait()


def failure(channel: grpc.Channel, code: grpc.StatusCode, name: str = "") -> errors.ClipcurateError:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/test.Failing/Fail")(f"{code.name} {name}".encode())
    return error_from(caught.value, "127.0.0.1:1")


def test_every_error_has_a_status() -> None:
    assert set(CODES) == set(ALL)
    assert grpc.StatusCode.OK not in CODES.values()
    assert grpc.StatusCode.UNKNOWN not in CODES.values()


@pytest.mark.parametrize("error", ALL)
def test_every_error_comes_back_as_itself(channel: grpc.Channel, error: type) -> None:
    back = failure(channel, code_of(error("x")), error.__name__)
    assert type(back) is error
    assert str(back) == "pool/ä.parquet: wrong; mend it"


def test_only_what_may_succeed_later_is_unavailable() -> None:
    transient = [error for error, code in CODES.items() if code == grpc.StatusCode.UNAVAILABLE]
    assert transient == [errors.UnavailableError]


@pytest.mark.parametrize("code", PASSING)
def test_silence_is_unavailability(channel: grpc.Channel, code: grpc.StatusCode) -> None:
    back = failure(channel, code)
    assert type(back) is errors.UnavailableError
    assert "127.0.0.1:1" in str(back)
    assert code.name in str(back)


@pytest.mark.parametrize("name", ["", "SomebodyElsesError"])
def test_foreign_failures_keep_their_status(channel: grpc.Channel, name: str) -> None:
    back = failure(channel, grpc.StatusCode.UNIMPLEMENTED, name)
    assert type(back) is errors.ClipcurateError
    assert "UNIMPLEMENTED" in str(back)


def test_nobody_listens() -> None:
    with grpc.insecure_channel("127.0.0.1:1") as dead, pytest.raises(grpc.RpcError) as caught:
        dead.unary_unary("/test.Failing/Fail")(b"", timeout=5)
    assert type(error_from(caught.value, "x")) is errors.UnavailableError
