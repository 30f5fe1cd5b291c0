"""Spans of OpenTelemetry, sent to a collector over HTTP. Imported by `tracing` alone, if wanted."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from clipcurate import __version__
from clipcurate.rpc.status import code_of_call

Attributes = Mapping[str, str | int | float | bool]

_TRACEPARENT = TraceContextTextMapPropagator()
_NO_FAILURES = (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED)
"""Statuses of calls that clients wanted to end so: they leave streams when they have enough."""
_FAULTS = {
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}
"""Statuses that are a server's failure, by OpenTelemetry's conventions."""


class Spans:
    """What `tracing` hands on to where traces are wanted."""

    def __init__(self, service: str) -> None:
        about = {
            "service.name": os.environ.get("OTEL_SERVICE_NAME") or f"clipcurate-{service}",
            "service.version": __version__,
            "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
        }
        provider = TracerProvider(resource=Resource.create(about))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = provider.get_tracer("clipcurate", __version__)

    @contextmanager
    def span(self, name: str, attributes: Attributes) -> Iterator[None]:
        """Trace a block below the current span."""
        with self._tracer.start_as_current_span(name, attributes=attributes):
            yield

    @contextmanager
    def task(self, name: str, attributes: Attributes, cause: str) -> Iterator[None]:
        """Trace a block as the root of a trace."""
        linked = trace.get_current_span(_TRACEPARENT.extract({"traceparent": cause}))
        links = [Link(linked.get_span_context())] if linked.get_span_context().is_valid else []
        with self._tracer.start_as_current_span(
            name, Context(), SpanKind.CONSUMER, attributes, links
        ):
            yield

    @contextmanager
    def served(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        """Trace a call that is served, below its client's span."""
        told = {k: v for k, v in context.invocation_metadata() if isinstance(v, str)}
        with self._tracer.start_as_current_span(
            method.lstrip("/"),
            _TRACEPARENT.extract(told),
            SpanKind.SERVER,
            _of_call(method),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            finally:
                code = code_of_call(context)
                _conclude(span, code, failed=code in _FAULTS)

    def fail(self, reason: str) -> None:
        """Mark the current span as failed."""
        trace.get_current_span().set_status(StatusCode.ERROR, reason)

    def traced(self, channel: grpc.Channel, quiet: tuple[str, ...]) -> grpc.Channel:
        """Return a channel with spans around its calls, but for the quiet ones."""
        return grpc.intercept_channel(channel, _ClientInterceptor(self._tracer, quiet))

    def ids(self) -> dict[str, str]:
        """Return the ids of the current span."""
        found = trace.get_current_span().get_span_context()
        if not found.is_valid:
            return {}
        return {
            "trace_id": trace.format_trace_id(found.trace_id),
            "span_id": trace.format_span_id(found.span_id),
        }

    def parent(self) -> str:
        """Return the current span's traceparent."""
        return _traceparent(None)


class _ClientInterceptor(
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[type-arg]
    grpc.UnaryStreamClientInterceptor,  # type: ignore[type-arg]
    grpc.StreamUnaryClientInterceptor,  # type: ignore[type-arg]
    grpc.StreamStreamClientInterceptor,  # type: ignore[type-arg]
):
    """A span around each call, from its start until it is done, whoever waits for that."""

    def __init__(self, tracer: trace.Tracer, quiet: tuple[str, ...]) -> None:
        self._tracer = tracer
        self._quiet = quiet

    def _call(self, continuation: Any, details: Any, request: Any) -> Any:
        method = details.method
        if method.startswith(self._quiet):
            return continuation(details, request)
        span = self._tracer.start_span(
            method.lstrip("/"), kind=SpanKind.CLIENT, attributes=_of_call(method)
        )
        told = ("traceparent", _traceparent(trace.set_span_in_context(span)))
        call = continuation(details._replace(metadata=[*(details.metadata or ()), told]), request)
        call.add_done_callback(lambda done: _end(span, done))
        return call

    intercept_unary_unary = _call  # type: ignore[assignment]
    intercept_unary_stream = _call  # type: ignore[assignment]
    intercept_stream_unary = _call  # type: ignore[assignment]
    intercept_stream_stream = _call  # type: ignore[assignment]


def _traceparent(context: Context | None) -> str:
    carrier: dict[str, str] = {}
    _TRACEPARENT.inject(carrier, context)
    return carrier.get("traceparent", "")


def _of_call(method: str) -> Attributes:
    service, _, name = method.lstrip("/").partition("/")
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}


def _end(span: Span, call: Any) -> None:
    code = call.code()
    _conclude(span, code, failed=code not in _NO_FAILURES)
    span.end()


def _conclude(span: Span, code: grpc.StatusCode, *, failed: bool) -> None:
    span.set_attribute("rpc.grpc.status_code", code.value[0])
    if failed:
        span.set_status(StatusCode.ERROR, code.name)
