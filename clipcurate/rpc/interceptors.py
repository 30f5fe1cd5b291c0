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

_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
_HEALTH = "/grpc.health."


def rewrapped(handler: Any, wrap: Callable[[Any], Any]) -> Any:
    """Return the handler of a method with `wrap(behaviour)` in the place of its behaviour.

    Attributes of the behaviour are lost: one that says with them how it is to be called (as
    `Health.Watch` does, to run in threads of its own) must stay as it is.
    """
    kind = next(kind for kind in _KINDS if getattr(handler, kind))
    return handler._replace(**{kind: wrap(getattr(handler, kind))})


class CallInterceptor(grpc.ServerInterceptor):  # type: ignore[type-arg]
    """Maps errors to statuses and counts calls by method and code; health checks pass untouched.

    Args:
        translate: turns a foreign exception (of a database driver, say) into one of ours, or
            returns None for a defect, which becomes INTERNAL and is logged with its traceback.
    """

    def __init__(self, translate: Translate) -> None:
        self._translate = translate

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Wrap the handler of the called method."""
        handler = continuation(details)
        if handler is None or details.method.startswith(_HEALTH):
            return handler
        around = self._stream if handler.response_streaming else self._unary
        return rewrapped(handler, lambda behaviour: around(behaviour, details.method))

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
