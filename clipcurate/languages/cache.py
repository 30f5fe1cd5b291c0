"""A cache of large values under a byte budget: the least recently used go first."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, Protocol, TypeVar

DEFAULT_BYTES = 2 << 30


class Sized(Protocol):
    """What knows its size."""

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""


Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value", bound=Sized)


class ByteCache(Generic[Key, Value]):
    """Values by key. Threads may share one; two that want the same key load it once.

    A value above the budget is kept alone, until another one is loaded. What was dropped lives on
    where it is still in use.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._sizes: dict[Key, int] = {}
        self._loading: dict[Key, Future[Value]] = {}
        self._lock = threading.Lock()

    def get(self, key: Key, load: Callable[[], Value]) -> Value:
        """Return the value of a key, loading it where it is not here; raises what `load` raises.

        Loading holds up only those who want the same key.
        """
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            loading = self._loading.get(key)
            mine = loading is None
            if loading is None:
                loading = self._loading[key] = Future()
        if mine:
            self._load(key, load, loading)
        return loading.result()

    def values(self) -> dict[Key, Value]:
        """Return what is here now."""
        with self._lock:
            return dict(self._values)

    def _load(self, key: Key, load: Callable[[], Value], loading: "Future[Value]") -> None:
        try:
            value = load()
            size = value.nbytes
        except BaseException as error:
            with self._lock:
                del self._loading[key]
            loading.set_exception(error)
            raise
        with self._lock:
            del self._loading[key]
            self._values[key], self._sizes[key] = value, size
            self._drop()
        loading.set_result(value)

    def _drop(self) -> None:
        """Drop the least recently used, but not the last one, until the rest is in the budget."""
        while sum(self._sizes.values()) > self._budget and len(self._values) > 1:
            key, _ = self._values.popitem(last=False)
            del self._sizes[key]
