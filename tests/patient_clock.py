"""A clock for the patience of callers."""

from types import SimpleNamespace

import pytest

from clipcurate.rpc import patience


class Clock:
    """Time that passes only where a test, or a pause, says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=self.go_on)
        monkeypatch.setattr(patience, "time", clock)

    def go_on(self, seconds: float) -> None:
        self.now += seconds
