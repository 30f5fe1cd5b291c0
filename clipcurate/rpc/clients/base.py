"""What all clients share: channels, deadlines, and failures as clipcurate's own errors."""

import json
import random
import time
from collections.abc import Iterator
from typing import Any, Self

import grpc
from google.protobuf.message import Message

from clipcurate.errors import ClipcurateError
from clipcurate.rpc import tracing
from clipcurate.rpc.certificates import Pems
from clipcurate.rpc.clients.renewing import RenewingChannel
from clipcurate.rpc.handshakes import remedy
from clipcurate.rpc.security import channel_credentials, channel_files
from clipcurate.rpc.settings import KEEPALIVE_SECONDS, MAX_MESSAGE_BYTES, SecuritySettings
from clipcurate.rpc.status import error_from
from clipcurate.rpc.v1 import counter_pb2, ledger_pb2, matcher_pb2, sampler_pb2, trainer_pb2

CALL_SECONDS = 30.0
BULK_SECONDS = 600.0
STREAM_SECONDS = 7 * 24 * 3600.0

_PAUSES = (0.1, 0.2, 0.4)
"""Seconds before another attempt at a call that may pass: gRPC's own for calls of one response."""
# CANCELLED: by a server that stops; see rpc/status.py.
_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def _streams() -> list[dict[str, str]]:
    """Name the methods that stream. One that gRPC repeats may wait for ever for a dead server."""
    files = (counter_pb2, ledger_pb2, matcher_pb2, sampler_pb2, trainer_pb2)
    return [
        {"service": service.full_name, "method": method.name}
        for file in files
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if method.client_streaming or method.server_streaming
    ]


_SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {"name": _streams()},
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 1 + len(_PAUSES),
                    "initialBackoff": f"{_PAUSES[0]}s",
                    "maxBackoff": "2s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": [code.name for code in _PASSING],
                },
            },
        ],
    }
)

_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # Who was started again may have another address; gRPC's own pause is 30 s.
    ("grpc.dns_min_time_between_resolutions_ms", 2000),
    ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS[0] * 1000),
    ("grpc.http2.ping_timeout_ms", KEEPALIVE_SECONDS[1] * 1000),
    ("grpc.http2.max_pings_without_data", 0),
    # Otherwise a channel of the same target shares its broken connection's back-off.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
]


def open_channel(target: str, security: SecuritySettings | None = None) -> grpc.Channel:
    """Open a channel that balances over all addresses of `target` and retries what passes.

    Calls begin with what the files of `security` hold then.
    """
    files = channel_files(security) if security else None
    if files is None:
        return tracing.traced(grpc.insecure_channel(target, _OPTIONS))

    def dial(pems: Pems) -> grpc.Channel:
        return grpc.secure_channel(target, channel_credentials(pems), _OPTIONS)

    return tracing.traced(RenewingChannel(dial, files))


class Client:
    """A channel to one service. Use as a context manager, or call `close`."""

    def __init__(self, target: str, security: SecuritySettings | None = None) -> None:
        self.target = target
        self.channel = open_channel(target, security)
        self._security = security

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the channel."""
        self.close()

    def close(self) -> None:
        """Close the channel; calls in flight are cancelled."""
        self.channel.close()

    def call(self, method: Any, request: Any, timeout: float = CALL_SECONDS) -> Any:
        """Make a call with one response. Raises the error that the server raised."""
        try:
            return method(request, timeout=timeout)
        except grpc.RpcError as error:
            raise self._error_from(error) from error

    def stream(self, method: Any, request: Any, timeout: float = STREAM_SECONDS) -> Iterator[Any]:
        """Make a call with many responses; leaving the loop early cancels it.

        One that fails before its first response is made again, as gRPC does with the others, unless
        its request is a stream, which could not be sent twice.
        """
        pauses = list(_PAUSES) if isinstance(request, Message) else []
        begun = False
        while True:
            call = method(request, timeout=timeout)
            try:
                for response in call:
                    begun = True
                    yield response
            except grpc.RpcError as error:
                if begun or not pauses or error.code() not in _PASSING:
                    raise self._error_from(error) from error
            else:
                return
            finally:
                call.cancel()
            time.sleep(pauses.pop(0) * random.uniform(0.5, 1))

    def _error_from(self, error: grpc.RpcError) -> ClipcurateError:
        return error_from(error, self.target, lambda details: remedy(details, self._security))
