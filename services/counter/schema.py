"""Which layout of keys Redis holds, and which of them this release knows.

Every run carries the version of the layout that it was made in, among its own keys, and keeps it to
its end; without one it is of version 1, as all runs were before there were versions. Beside that
the store as a whole has a mark: the highest version that any run was made in. The mark makes a
counter of an older release not ready; what protects a run is the run's own version, so the mark may
be lost.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from clipcurate.errors import UnavailableError

VERSION = 1
"""Of the runs that this release makes; it works on those of all versions up to this one."""
MARK = "clipcurate:schema"
"""Key of the store's mark; a run's own version is the field `schema` of its hash."""
_NEWER = re.compile(r"\bNEWERSCHEMA (\d+) (\d+)")
"""How scripts refuse a run: the version that it has, and the newest that is known."""


class NewerSchemaError(redis.RedisError):
    """What Redis holds was laid out by a newer release."""

    def __init__(self, found: int, known: int) -> None:
        super().__init__(f"NEWERSCHEMA {found} {known}")
        self.remark = _remark(found, known)
        """Which versions meet, and what to do."""


def newer_schema(error: Exception) -> UnavailableError | None:
    """Return what a client is told where a newer layout was refused; None for other errors.

    The call may be repeated: in the middle of an upgrade another counter can do it.
    """
    if not (numbers := _NEWER.search(str(error))):
        return None
    return UnavailableError(f"{_remark(*map(int, numbers.groups()))}; nothing was changed")


@contextmanager
def newer_left_out() -> Iterator[None]:
    """End the block where a newer layout is refused: who goes through runs goes on with others."""
    try:
        yield
    except redis.RedisError as error:
        if newer_schema(error) is None:
            raise


def _remark(found: int, known: int) -> str:
    return (
        f"Redis holds runs of layout version {found}, and this counter knows versions up to "
        f"{known}: upgrade the counter, or give it another Redis"
    )
