"""Following a run whose counter comes and goes; the ledger is made up, time passes at once."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from clipcurate.cli.following import updates
from clipcurate.errors import UnavailableError
from clipcurate.rpc.patience import AWAY_SECONDS
from clipcurate.rpc.v1 import ledger_pb2 as pb
from tests.patient_clock import Clock

SUBMISSION = cast(Any, SimpleNamespace(run_id="run"))


class Restarting:
    """A ledger whose streams break off after one update, until so many were opened."""

    def __init__(self, streams: int) -> None:
        self.left = streams

    def watch_run(self, run_id: str, _: float) -> Iterator[pb.Run]:
        self.left -= 1
        yield pb.Run(run_id=run_id, pairs=self.left)
        if self.left:
            raise UnavailableError("away")


class Gone:
    """A ledger that is away for good."""

    def watch_run(self, *_: object) -> Iterator[pb.Run]:
        raise UnavailableError("away")


def test_what_is_done_between_updates_does_not_count_as_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    seen = []
    for run in updates(cast(Any, Restarting(3)), SUBMISSION):
        seen.append(run.pairs)
        clock.go_on(10 * AWAY_SECONDS)
    assert seen == [2, 1, 0]


def test_a_counter_that_stays_away_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    began = clock.now
    with pytest.raises(UnavailableError):
        list(updates(cast(Any, Gone()), SUBMISSION))
    assert AWAY_SECONDS - 2 <= clock.now - began <= AWAY_SECONDS
