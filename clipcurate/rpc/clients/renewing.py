"""A channel that outlives its certificates: gRPC's own keeps those that it was opened with."""

import threading
from collections.abc import Callable
from typing import Any

import grpc

from clipcurate.rpc.certificates import PemFiles, Pems

Dial = Callable[[Pems], grpc.Channel]


class RenewingChannel(grpc.Channel):
    """Opens a channel anew for later calls whenever its files have changed.

    Calls in flight end on the channel that they began on.

    Args:
        dial: opens a channel with what the files hold.
        files: the credentials.
    """

    def __init__(self, dial: Dial, files: PemFiles) -> None:
        self._dial = dial
        self._files = files
        self._lock = threading.Lock()
        self._pems = files.current()
        self._channel = dial(self._pems)

    def current(self) -> grpc.Channel:
        """Return the channel for a call that begins now."""
        pems = self._files.current()
        with self._lock:
            if pems != self._pems:
                # The former one is let go of, not closed: that would cancel its calls.
                self._pems, self._channel = pems, self._dial(pems)
            return self._channel

    def unary_unary(self, *args: Any, **options: Any) -> Any:
        """As of `grpc.Channel`."""
        return _Method(self.current, lambda channel: channel.unary_unary(*args, **options))

    def unary_stream(self, *args: Any, **options: Any) -> Any:
        """As of `grpc.Channel`."""
        return _Method(self.current, lambda channel: channel.unary_stream(*args, **options))

    def stream_unary(self, *args: Any, **options: Any) -> Any:
        """As of `grpc.Channel`."""
        return _Method(self.current, lambda channel: channel.stream_unary(*args, **options))

    def stream_stream(self, *args: Any, **options: Any) -> Any:
        """As of `grpc.Channel`."""
        return _Method(self.current, lambda channel: channel.stream_stream(*args, **options))

    def subscribe(self, callback: Any, try_to_connect: bool = False) -> None:
        """As of `grpc.Channel`, of the channel that is current now."""
        self.current().subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Any) -> None:
        """As of `grpc.Channel`, of the channel that is current now."""
        self.current().unsubscribe(callback)

    def close(self) -> None:
        """Close the channel; calls in flight on it are cancelled."""
        self._channel.close()

    def __enter__(self) -> "RenewingChannel":
        """Return the channel."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the channel."""
        self.close()


class _Method:
    """A method of the service, on whichever channel is current."""

    def __init__(
        self, current: Callable[[], grpc.Channel], bind: Callable[[grpc.Channel], Any]
    ) -> None:
        self._current, self._bind = current, bind
        self._bound: tuple[grpc.Channel | None, Any] = (None, None)

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._now()(*args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._now(), name)

    def _now(self) -> Any:
        channel = self._current()
        if self._bound[0] is not channel:
            self._bound = (channel, self._bind(channel))
        return self._bound[1]
