"""A channel that outlives its certificates: gRPC's own keeps those that it was opened with."""

import threading
import weakref
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
        self._open = weakref.WeakSet([self._channel])
        self._channels: weakref.WeakKeyDictionary[grpc.RpcContext, grpc.Channel] = (
            weakref.WeakKeyDictionary()
        )

    def current(self) -> grpc.Channel:
        """Return the channel for a call that begins now."""
        pems = self._files.current()
        with self._lock:
            if pems != self._pems:
                # The former one is let go of, not closed: that would cancel its calls.
                self._pems, self._channel = pems, self._dial(pems)
                self._open.add(self._channel)
            return self._channel

    def begin(self, call: Callable[[grpc.Channel], Any]) -> Any:
        """Begin a call; its channel is kept while it goes on, which gRPC itself would not do."""
        channel = self.current()
        begun = call(channel)
        if isinstance(begun, grpc.RpcContext):
            self._channels[begun] = channel
        return begun

    def unary_unary(self, *args: Any, **options: Any) -> Any:
        """As of `grpc.Channel`."""
        return _Method(self.begin, lambda channel: channel.unary_unary(*args, **options))

    def unary_stream(self, *args: Any, **options: Any) -> Any:
        """As of `grpc.Channel`."""
        return _Method(self.begin, lambda channel: channel.unary_stream(*args, **options))

    def stream_unary(self, *args: Any, **options: Any) -> Any:
        """As of `grpc.Channel`."""
        return _Method(self.begin, lambda channel: channel.stream_unary(*args, **options))

    def stream_stream(self, *args: Any, **options: Any) -> Any:
        """As of `grpc.Channel`."""
        return _Method(self.begin, lambda channel: channel.stream_stream(*args, **options))

    def subscribe(self, callback: Any, try_to_connect: bool = False) -> None:
        """As of `grpc.Channel`, of the channel that is current now."""
        self.current().subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Any) -> None:
        """As of `grpc.Channel`, of the channel that is current now."""
        self.current().unsubscribe(callback)

    def close(self) -> None:
        """Close the channel; calls in flight are cancelled, those on former ones too."""
        with self._lock:
            for channel in list(self._open):
                channel.close()

    def __enter__(self) -> "RenewingChannel":
        """Return the channel."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the channel."""
        self.close()


class _Method:
    """A method of the service, on whichever channel is current when a call begins."""

    def __init__(
        self,
        begin: Callable[[Callable[[grpc.Channel], Any]], Any],
        bind: Callable[[grpc.Channel], Any],
    ) -> None:
        self._begin, self._bind = begin, bind

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._begin(lambda channel: self._bind(channel)(*args, **options))

    def with_call(self, *args: Any, **options: Any) -> Any:
        """As of `grpc.UnaryUnaryMultiCallable`."""
        return self._begin(lambda channel: self._bind(channel).with_call(*args, **options))

    def future(self, *args: Any, **options: Any) -> Any:
        """As of `grpc.UnaryUnaryMultiCallable`."""
        return self._begin(lambda channel: self._bind(channel).future(*args, **options))
