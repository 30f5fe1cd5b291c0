"""Structured logs: one JSON object a line on stderr, with the same keys in every service."""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType, TracebackType

from clipcurate.errors import ClipcurateError
from clipcurate.rpc import tracing

log = logging.getLogger(__name__)

_OURS = ("clipcurate", "services")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_NOTHING: Mapping[str, object] = MappingProxyType({})
_ABOUT: ContextVar[Mapping[str, object]] = ContextVar("about", default=_NOTHING)


@contextmanager
def about(**fields: object) -> Iterator[None]:
    """Have each line that this thread writes in the block carry these fields of `LogLine`."""
    before = _ABOUT.get()
    note(**fields)
    try:
        yield
    finally:
        _ABOUT.set(before)


def note(**fields: object) -> None:
    """Add fields to those of the block that this thread is in."""
    _ABOUT.set({**_ABOUT.get(), **fields})


class JsonFormatter(logging.Formatter):
    """Writes each record as a `LogLine`."""

    converter = staticmethod(time.gmtime)

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """Return one line of JSON."""
        line: dict[str, object] = {
            "time": f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
            **_ABOUT.get(),
            **tracing.ids(),
            **_extra(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _extra(record: logging.LogRecord) -> dict[str, object]:
    """Return what a record carries beside its message: our fields, or `other` of libraries.

    Ours are all written as they are, so that tests find one that `LogLine` does not have.
    """
    extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    if record.name.partition(".")[0] in _OURS or not extra:
        return extra
    return {"other": {key: str(value) for key, value in extra.items()}}


def configure(service: str, level: str, style: str) -> None:
    """Send all logs of this process to stderr, as JSON lines or as text."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter(f"%(asctime)s %(levelname)s {service} %(message)s")
    handler.setFormatter(JsonFormatter(service) if style == "json" else text)
    logging.basicConfig(level=level, handlers=[handler], force=True)


def begin(service: str) -> None:
    """Make logs of all that this process says from now on: also warnings and uncaught errors.

    Until its settings are read, its logs have the style of the environment.
    """
    configure(service, "INFO", os.environ.get(f"CLIPCURATE_{service.upper()}_LOG_FORMAT", "json"))
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Log what ends the process; our own errors say all in their message."""
    if isinstance(error, ClipcurateError):
        log.critical("%s", error)
    else:
        log.critical("%s: %s", kind.__name__, error, exc_info=(kind, error, trace))


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit and args.exc_value is not None:
        _uncaught(args.exc_type, args.exc_value, args.exc_traceback)
