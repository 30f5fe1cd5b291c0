"""What happens around every call: errors become one gRPC status; it is measured and traced."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from clipcurate.errors import ClipcurateError
from clipcurate.rpc import logs, tracing
from clipcurate.rpc.metrics import CALL_SECONDS, CALLS, CALLS_IN_FLIGHT
from clipcurate.rpc.status import ERROR_KEY, code_of, code_of_call

log = logging.getLogger(__name__)

Translate = Callable[[Exception], ClipcurateError | None]


class CallInterceptor(grpc.ServerInterceptor):  # type: ignore[type-arg]
    """Maps errors to statuses and counts calls by method and code.

    Args:
        translate: turns a foreign exception (of a database driver, say) into one of ours, or
            returns None for a defect, which becomes INTERNAL and is logged with its traceback.
    """

    def __init__(self, translate: Translate) -> None:
        self._translate = translate

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Wrap the handler of the called method."""
        handler = continuation(details)
        if handler is None:
            return None
        streams = handler.response_streaming
        behaviour = _behaviour(handler)
        wrapped = (
            self._stream(behaviour, details.method)
            if streams
            else self._unary(behaviour, details.method)
        )
        return _maker(handler)(
            wrapped,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _unary(self, behaviour: Any, method: str) -> Any:
        def call(request: Any, context: Any) -> Any:
            with _surrounded(method, context):
                try:
                    return behaviour(request, context)
                except Exception as error:  # noqa: BLE001 - the outermost frame of a call
                    self._abort(error, method, context)

        return call

    def _stream(self, behaviour: Any, method: str) -> Any:
        def call(request: Any, context: Any) -> Iterator[Any]:
            with _surrounded(method, context):
                try:
                    yield from behaviour(request, context)
                except Exception as error:  # noqa: BLE001 - the outermost frame of a call
                    self._abort(error, method, context)

        return call

    def _abort(self, error: Exception, method: str, context: Any) -> None:
        if context.code() is not None or not context.is_active():  # aborted, or the client left
            raise error
        ours = error if isinstance(error, ClipcurateError) else self._translate(error)
        if ours is None:
            log.error("defect in %s", method, exc_info=error)
            context.abort(grpc.StatusCode.INTERNAL, f"{method}: defect in the service; see its log")
        else:
            context.set_trailing_metadata(((ERROR_KEY, type(ours).__name__),))
            context.abort(code_of(ours), str(ours))


@contextmanager
def _surrounded(method: str, context: Any) -> Iterator[None]:
    """Trace and measure one call, and have its method in its logs."""
    with tracing.served(method, context), logs.about(method=method):
        CALLS_IN_FLIGHT.labels(method).inc()
        start = time.perf_counter()
        try:
            yield
        finally:
            CALLS_IN_FLIGHT.labels(method).dec()
            CALLS.labels(method, code_of_call(context).name).inc()
            CALL_SECONDS.labels(method).observe(time.perf_counter() - start)


def _behaviour(handler: Any) -> Any:
    return (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )


def _maker(handler: Any) -> Any:
    if handler.request_streaming:
        return (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
    return (
        grpc.unary_stream_rpc_method_handler
        if handler.response_streaming
        else grpc.unary_unary_rpc_method_handler
    )
