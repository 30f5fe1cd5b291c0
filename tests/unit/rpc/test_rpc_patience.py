from collections.abc import Iterator
from itertools import islice

import pytest

from clipcurate.errors import InvalidInputError, UnavailableError
from clipcurate.rpc.patience import patiently, resumed
from tests.patient_clock import Clock


class Away:
    """A service that fails so many times, and then answers."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise UnavailableError(f"away {self.calls}")
        return "answer"


def test_a_call_is_repeated_until_its_service_is_back() -> None:
    service, told = Away(3), list[str]()
    assert patiently(service, lambda error: told.append(str(error))) == "answer"
    assert service.calls == 4
    assert told == ["away 1"]


def test_patience_ends_with_the_last_failure() -> None:
    service = Away(10**6)
    with pytest.raises(UnavailableError, match=f"away {2}"):
        patiently(service, seconds=0.25)
    assert service.calls == 2


def test_other_failures_are_not_repeated() -> None:
    calls = []

    def call() -> None:
        calls.append(1)
        raise InvalidInputError("wrong")

    with pytest.raises(InvalidInputError):
        patiently(call)
    assert calls == [1]


def test_a_stream_goes_on_where_it_broke_off() -> None:
    opened: list[int] = []

    def stream(done: int) -> Iterator[str]:
        opened.append(done)
        yield from islice("abcdef"[done:], 2)
        if done + 2 < 6:
            raise UnavailableError("away")

    assert list(resumed(stream)) == list("abcdef")
    assert opened == [0, 2, 4]


def test_a_stream_that_yields_nothing_any_more_ends_with_the_failure() -> None:
    def stream(done: int) -> Iterator[int]:
        if done == 0:
            yield 1
        raise UnavailableError("away")

    found = resumed(stream, seconds=0.3)
    assert next(found) == 1
    with pytest.raises(UnavailableError, match="away"):
        next(found)


def test_a_call_that_took_long_before_it_failed_is_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, service = Clock(monkeypatch), Away(1)

    def call() -> str:
        clock.go_on(3600)
        return service()

    assert patiently(call) == "answer"


def test_the_work_of_whoever_reads_a_stream_uses_up_no_patience(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)

    def stream(done: int) -> Iterator[int]:
        if done == 2:
            return
        yield done
        raise UnavailableError("away")

    found = []
    for item in resumed(stream):
        found.append(item)
        clock.go_on(3600)
    assert found == [0, 1]


def test_a_service_may_be_away_for_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    began = clock.now
    with pytest.raises(UnavailableError):
        patiently(Away(10**6))
    assert 57 < clock.now - began <= 60
