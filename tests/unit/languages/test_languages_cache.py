import threading
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcurate.languages import ByteCache

WAIT_SECONDS = 30


@dataclass
class Value:
    nbytes: int


def keys(cache: ByteCache[str, Value]) -> list[str]:
    return list(cache.values())


def test_the_least_recently_used_go_first() -> None:
    cache: ByteCache[str, Value] = ByteCache(10)
    for name in "abc":
        cache.get(name, lambda: Value(4))
    assert keys(cache) == ["b", "c"]
    cache.get("b", pytest.fail)
    cache.get("d", lambda: Value(4))
    assert keys(cache) == ["b", "d"]


def test_one_above_the_budget_is_kept_alone() -> None:
    cache: ByteCache[str, Value] = ByteCache(10)
    cache.get("a", lambda: Value(4))
    big = cache.get("big", lambda: Value(11))
    assert keys(cache) == ["big"]
    assert cache.get("big", pytest.fail) is big
    cache.get("a", lambda: Value(4))
    assert keys(cache) == ["a"]


@given(st.lists(st.sampled_from("abcdef")), st.integers(0, 12))
def test_the_budget_holds_and_the_last_is_there(names: list[str], budget: int) -> None:
    cache: ByteCache[str, Value] = ByteCache(budget)
    for name in names:
        assert cache.get(name, lambda name=name: Value(ord(name) - 96)).nbytes == ord(name) - 96
        held = cache.values()
        assert list(held)[-1] == name
        assert len(held) == 1 or sum(value.nbytes for value in held.values()) <= budget


def test_what_fails_to_load_is_tried_again() -> None:
    cache: ByteCache[str, Value] = ByteCache(10)

    def fail() -> Value:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        cache.get("a", fail)
    assert cache.get("a", lambda: Value(1)).nbytes == 1


def test_threads_load_a_key_once_and_other_keys_do_not_wait() -> None:
    cache: ByteCache[str, Value] = ByteCache(10)
    loading, finish = threading.Event(), threading.Event()
    loads: list[str] = []

    def slow() -> Value:
        loads.append("a")
        loading.set()
        assert finish.wait(WAIT_SECONDS)
        return Value(1)

    found: list[Value] = []
    threads = [
        threading.Thread(target=lambda: found.append(cache.get("a", slow))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    assert loading.wait(WAIT_SECONDS)
    assert cache.get("b", lambda: Value(2)).nbytes == 2, "while `a` is still being loaded"
    finish.set()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert loads == ["a"]
    assert len({id(value) for value in found}) == 1
    assert len(found) == 3
