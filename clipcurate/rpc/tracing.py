"""Traces across services, by OpenTelemetry, where the environment names a collector.

The standard variables decide: OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT
switches traces on. Without them nothing of OpenTelemetry is imported here, and every function
returns at once. With them it needs `pip install 'clipcurate[tracing]'`; operators set them for
whole clusters, so without it nothing is traced, and all goes on.
"""

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from clipcurate.rpc.spans import Spans

log = logging.getLogger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_QUIET = ("/clipcurate.v1.Ledger/ClaimTask", "/grpc.health.", "/grpc.reflection.")
"""Calls that are made all the time, also when there is nothing to do."""

Attribute = str | int | float | bool


@dataclass
class _State:
    spans: "Spans | None" = None


_STATE = _State()


def wanted(environment: Mapping[str, str]) -> bool:
    """Say whether an environment asks for traces."""
    disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return not disabled and any(environment.get(name) for name in ENDPOINTS)


def start(service: str, warn: Callable[[str], object] = log.warning) -> None:
    """Begin to trace this process, if its environment asks for it; what is left goes out at exit.

    Args:
        service: names it.
        warn: is told where OpenTelemetry is not installed; nothing is traced then.
    """
    if _STATE.spans is not None or not wanted(os.environ):
        return
    try:
        from clipcurate.rpc.spans import Spans
    except ImportError as error:
        warn(
            f"no traces: {' or '.join(ENDPOINTS)} is set, but OpenTelemetry is not installed "
            f"({error}): pip install 'clipcurate[tracing]', or unset it"
        )
        return
    _STATE.spans = Spans(service)


def span(name: str, attributes: Mapping[str, Attribute]) -> AbstractContextManager[None]:
    """Trace a block as a part of what is being done."""
    return _STATE.spans.span(name, attributes) if _STATE.spans else nullcontext()


def task(
    name: str, attributes: Mapping[str, Attribute], cause: str
) -> AbstractContextManager[None]:
    """Trace a block as a trace of its own, linked to its `cause`, a traceparent or empty."""
    return _STATE.spans.task(name, attributes, cause) if _STATE.spans else nullcontext()


def served(method: str, context: grpc.ServicerContext) -> AbstractContextManager[None]:
    """Trace the call that a block serves, as a part of what its client traces."""
    if _STATE.spans is None or method.startswith(_QUIET):
        return nullcontext()
    return _STATE.spans.served(method, context)


def fail(reason: str) -> None:
    """Mark the innermost block as failed."""
    if _STATE.spans is not None:
        _STATE.spans.fail(reason)


def traced(channel: grpc.Channel) -> grpc.Channel:
    """Return a channel whose calls are traced and tell their server of the trace."""
    return _STATE.spans.traced(channel, _QUIET) if _STATE.spans else channel


def ids() -> dict[str, str]:
    """Return `trace_id` and `span_id` of the innermost block; nothing outside of any."""
    return _STATE.spans.ids() if _STATE.spans else {}


def parent() -> str:
    """Return the W3C traceparent of the innermost block; empty outside of any."""
    return _STATE.spans.parent() if _STATE.spans else ""
