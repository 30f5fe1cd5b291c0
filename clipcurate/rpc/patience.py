"""Calls that outlast a restart of their service: the policy of docs/operations/upgrade.md.

A call that fails as UNAVAILABLE is repeated at once, four times within a second: enough where
another process of the service answers, or for a connection that broke. While the only counter or
Redis starts again it takes longer; who has nothing better to do than wait does so here.
"""

import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from clipcurate.errors import UnavailableError

AWAY_SECONDS = 60.0
"""How long a service or Redis may be away, restarts included, before a caller gives up."""
PAUSES = (0.1, 2.0)
"""First and longest pause between attempts; each doubles, and is drawn from its upper half."""
Value = TypeVar("Value")
Waiting = Callable[[UnavailableError], object]


def silent(_: UnavailableError) -> None:
    """Tell nobody."""


def patiently(
    call: Callable[[], Value],
    waiting: Waiting = silent,
    seconds: float = AWAY_SECONDS,
) -> Value:
    """Make a call, and again while its service is away. All of clipcurate's may be repeated.

    Args:
        call: makes it.
        waiting: is told, once, why it takes longer.
        seconds: since the first failure after which the last one is raised.

    Raises:
        UnavailableError: the service stayed away.
    """
    patience = Patience(seconds, waiting)
    while True:
        try:
            return call()
        except UnavailableError as error:
            patience.wait(error)


def resumed(
    stream: Callable[[int], Iterator[Value]],
    seconds: float = AWAY_SECONDS,
) -> Iterator[Value]:
    """Yield what a stream yields, going on where it broke off while its service was away.

    Args:
        stream: opens it without its first so many items.
        seconds: since the first failure after an item after which the last one is raised.

    Raises:
        UnavailableError: the service stayed away.

    Example:
        >>> for matches in resumed(lambda done: matcher.match_stream(batches[done:])): ...
    """
    done, patience = 0, Patience(seconds)
    while True:
        try:
            for item in stream(done):
                done, patience = done + 1, Patience(seconds)
                yield item
        except UnavailableError as error:
            patience.wait(error)
        else:
            return


class Patience:
    """Waits between attempts, longer each time, until it is over.

    Args:
        seconds: how long, from the first wait on.
        waiting: is told, once, why it takes longer.
    """

    def __init__(self, seconds: float = AWAY_SECONDS, waiting: Waiting = silent) -> None:
        self._seconds = seconds
        self._end: float | None = None
        self._pause = PAUSES[0]
        self._waiting = waiting

    def wait(self, error: UnavailableError) -> None:
        """Pause, or raise the error where that would take too long."""
        now = time.monotonic()
        self._end = now + self._seconds if self._end is None else self._end
        if now + self._pause > self._end:
            raise error
        self._waiting(error)
        self._waiting = silent
        time.sleep(self._pause * random.uniform(0.5, 1))
        self._pause = min(2 * self._pause, PAUSES[1])
