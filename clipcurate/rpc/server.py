"""The one way in which a service is started, is found healthy, is measured, and stops."""

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http.server import HTTPServer
from types import TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server

from clipcurate.errors import ClipcurateError, ConflictError, InvalidInputError
from clipcurate.rpc import logs, metrics
from clipcurate.rpc.authorization import authorization
from clipcurate.rpc.interceptors import CallInterceptor, Translate
from clipcurate.rpc.security import server_credentials, warn_of_strangers
from clipcurate.rpc.settings import KEEPALIVE_SECONDS, MAX_MESSAGE_BYTES, ServiceSettings
from clipcurate.rpc.signals import stop_on_signals

log = logging.getLogger(__name__)

LIVENESS = "liveness"
"""Health of the process itself: SERVING from its start to its end, also while it is not ready."""

WATCHES = 64
"""So many may watch the health at once, in threads of their own; others wait until one ends."""


def _no_translation(_: Exception) -> ClipcurateError | None:
    return None


class Server:
    """A gRPC server with health, reflection, metrics, logs and an orderly end.

    Health starts as NOT_SERVING for every service; `set_ready` changes it. After SIGTERM or SIGINT:
    NOT_SERVING, `stopping` is set, calls in flight get `drain_seconds`, then `wait` returns.

    Example:
        >>> with Server(settings, ["clipcurate.v1.Matcher"]) as server:
        ...     add_MatcherServicer_to_server(servicer, server.grpc)
        ...     server.start()
        ...     server.set_ready(True)
        ...     server.wait()
    """

    def __init__(
        self,
        settings: ServiceSettings,
        services: Sequence[str],
        translate: Translate = _no_translation,
    ) -> None:
        self._settings = settings
        self._services = list(services)
        self._health = health.HealthServicer(
            experimental_non_blocking=False,  # it would send to all while it holds its lock
            experimental_thread_pool=ThreadPoolExecutor(WATCHES, thread_name_prefix="watch"),
        )
        self._metrics: HTTPServer | None = None
        self.stopping = threading.Event()
        self.grpc = grpc.server(
            ThreadPoolExecutor(settings.threads, thread_name_prefix="call"),
            interceptors=[CallInterceptor(translate), *authorization(settings)],
            options=_options(settings),
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)
        self._health.set(LIVENESS, health_pb2.HealthCheckResponse.SERVING)
        self.set_ready(False)

    def __enter__(self) -> Self:
        """Configure logs and signal handlers."""
        logs.configure(self._name, self._settings.log_level, self._settings.log_format)
        stop_on_signals(self.stopping)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Drain and stop."""
        self.stopping.set()
        self.set_ready(False)
        self.grpc.stop(self._settings.drain_seconds if error is None else 0).wait()
        self.close_metrics()

    def start(self) -> str:
        """Listen, and return the bound address.

        Raises:
            ConflictError: the port is in use.
        """
        address = self._bind()
        if self._settings.reflection:
            reflection.enable_server_reflection([*self._services, *_INFRASTRUCTURE], self.grpc)
        self.grpc.start()
        self._start_metrics()
        log.info("listening", extra={"address": address})
        warn_of_strangers(self._settings, address)
        if self._settings.ready_file:
            self._settings.ready_file.write_text(address)
        return address

    def set_ready(self, ready: bool) -> None:
        """Set the health of every service; never ready again once stopping."""
        serving = ready and not self.stopping.is_set()
        status = health_pb2.HealthCheckResponse
        for service in ["", *self._services]:
            self._health.set(service, status.SERVING if serving else status.NOT_SERVING)

    def wait(self) -> None:
        """Block until a signal asks the service to stop and load balancers have noticed."""
        self.stopping.wait()
        self.set_ready(False)
        log.info("draining")
        threading.Event().wait(self._settings.endpoint_seconds)

    @property
    def metrics_address(self) -> str:
        """Where metrics are served; empty if nowhere."""
        if self._metrics is None:
            return ""
        return "{}:{}".format(*self._metrics.server_address)

    def close_metrics(self) -> None:
        """Stop serving metrics."""
        if self._metrics is not None:
            self._metrics.shutdown()
            self._metrics.server_close()
            self._metrics = None

    @property
    def _name(self) -> str:
        return self._services[0].rpartition(".")[2].lower()

    def _bind(self) -> str:
        listen = self._settings.listen
        credentials = server_credentials(self._settings)
        try:
            if credentials is None:
                port = self.grpc.add_insecure_port(listen)
            else:
                port = self.grpc.add_secure_port(listen, credentials)
        except RuntimeError as error:
            raise ConflictError(
                f"{listen}: cannot listen; the port is in use or not allowed: choose another"
            ) from error
        return f"{listen.rpartition(':')[0]}:{port}"

    def _start_metrics(self) -> None:
        listen = self._settings.metrics_listen
        if not listen:
            return
        host, _, port = listen.rpartition(":")
        if not port.isdigit():
            raise InvalidInputError(f"metrics_listen {listen!r} is not an address and a port")
        metrics.introduce(self._name)
        try:
            self._metrics, _ = start_http_server(int(port), host or "127.0.0.1")
        except OSError as error:
            raise ConflictError(f"{listen}: cannot serve metrics ({error.strerror})") from error


_INFRASTRUCTURE = (health.SERVICE_NAME, reflection.SERVICE_NAME)


def _options(settings: ServiceSettings) -> list[tuple[str, int]]:
    options = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        # Without this two processes can share a port unnoticed and split its calls.
        ("grpc.so_reuseport", 0),
        # Otherwise it takes clients that ask whether it is there for abusive.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", KEEPALIVE_SECONDS[0] * 500),
    ]
    if settings.max_connection_age_seconds:
        age = int(settings.max_connection_age_seconds * 1000)
        options += [("grpc.max_connection_age_ms", age)]
        options += [("grpc.max_connection_age_grace_ms", int(settings.drain_seconds * 1000))]
    return options
