"""A TCP proxy between two processes: it forwards, delays, holds back, loses replies, or resets."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

CHUNK = 64 * 1024
SLOW_SECONDS = 0.15


class Mode(Enum):
    """What a link does with bytes."""

    OPEN = "forwards"
    SLOW = "forwards each chunk late"
    SILENT = "forwards nothing; connections stay"
    LOST = "forgets its connections without a word to either side"
    DEAF = "forwards requests, drops replies"
    RESET = "resets every connection"


class Links:
    """All links of a system, driven by one thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)
        self._thread.start()
        self.links: dict[str, Link] = {}

    def open(self, name: str, port: int) -> int:
        """Listen on a free port and forward to `port`; return the former."""
        link = Link(port)
        self.links[name] = link
        return int(self._wait(link.listen()))

    @contextlib.contextmanager
    def broken(self, name: str, mode: Mode) -> Iterator[None]:
        """Break one link while the block runs. Afterwards it forwards again.

        What a silent link held back is delivered then, as TCP does; what was dropped is lost, and
        its connections are reset. Connections that were lost never work again.
        """
        link = self.links[name]
        self._wait(link.become(mode))
        try:
            yield
        finally:
            if mode is Mode.DEAF:
                self._wait(link.become(Mode.RESET))
            self._wait(link.become(Mode.OPEN))

    def close(self) -> None:
        """Reset all connections and stop."""
        for link in self.links.values():
            self._wait(link.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)


@dataclass
class Link:
    """One listening port and what it forwards to. Its methods run in the links' thread."""

    port: int
    mode: Mode = Mode.OPEN
    flowing: asyncio.Event = field(default_factory=asyncio.Event)
    writers: set[asyncio.StreamWriter] = field(default_factory=set)
    lost: set[asyncio.StreamWriter] = field(default_factory=set)
    server: asyncio.Server | None = None
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def listen(self) -> int:
        self.flowing.set()
        self.server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(self.server.sockets[0].getsockname()[1])

    async def become(self, mode: Mode) -> None:
        self.mode = mode
        if mode is Mode.SILENT:
            self.flowing.clear()
        else:
            self.flowing.set()
        if mode is Mode.RESET:
            for writer in list(self.writers):
                _reset(writer)
        if mode is Mode.LOST:
            self.lost |= self.writers

    async def close(self) -> None:
        assert self.server is not None
        self.server.close()
        await self.become(Mode.RESET)
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        self.writers.add(writer)
        with contextlib.suppress(OSError):
            if self.mode is not Mode.RESET:
                await self._join(reader, writer)
        self.writers.discard(writer)
        self.lost.discard(writer)
        _reset(writer)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.add(back)
        ways = (self._pump(reader, back, False), self._pump(there, writer, True))
        try:
            pumps = [asyncio.ensure_future(way) for way in ways]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            self.writers.discard(back)
            self.lost.discard(back)
            _reset(back)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reply: bool
    ) -> None:
        while chunk := await reader.read(CHUNK):
            await self.flowing.wait()
            if self.mode is Mode.SLOW:
                await asyncio.sleep(SLOW_SECONDS)
            if not ((self.mode is Mode.DEAF and reply) or writer in self.lost):
                writer.write(chunk)
                await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST, so that the other side sees a broken connection, not an orderly end."""
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
