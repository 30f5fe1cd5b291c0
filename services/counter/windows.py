"""Windows of stability in Redis: what the last one found, and the counts at its end."""

import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from clipcurate.balancing.stability import StabilityRule, Windows, announced_pairs
from clipcurate.rpc.v1 import ledger_pb2 as pb
from services.counter.counts import RANGE
from services.counter.store import Store, run_prefix

Raw = Mapping[str, npt.NDArray[np.int64]]


@dataclass(frozen=True)
class WindowState:
    """The end of the last window.

    Attributes:
        base: names the counts at that moment; empty where no window has ended.
        tasks: match tasks that were counted.
        seen, announced: pairs.
        windows: drifts so far.
    """

    base: str = ""
    tasks: int = 0
    seen: int = 0
    announced: int = 0
    windows: Windows = field(default_factory=Windows)


def rule_of(spec: pb.RunSpec) -> StabilityRule:
    """Return when a run's counts are converged; what it leaves open is as by default."""
    wanted, default = spec.stability, StabilityRule()
    return StabilityRule(
        epsilon=wanted.epsilon or default.epsilon,
        windows=wanted.windows or default.windows,
        share=wanted.window_share or default.share,
    )


def announced_of(spec: pb.RunSpec, totals: Mapping[str, int]) -> int:
    """Return how many pairs the pool has: as announced, else as its counted tasks tell."""
    seen = totals.get("pairs", 0)
    if spec.stability.announced_pairs:
        return max(seen, spec.stability.announced_pairs)
    return announced_pairs(seen, totals.get("planned_rows", 0), spec.planned_rows)


def stability_progress(
    spec: pb.RunSpec, totals: Mapping[str, int], state: WindowState
) -> pb.StabilityProgress:
    """Return how stable a run's counts are, for people."""
    rule, seen = rule_of(spec), totals.get("pairs", 0)
    return pb.StabilityProgress(
        pairs_seen=seen,
        pairs_announced=announced_of(spec, totals),
        announced_estimated=spec.rows_estimated and not spec.stability.announced_pairs,
        window_tasks=rule.window_tasks(spec.num_tasks),
        drifts=state.windows.drifts,
        windows_below=state.windows.below,
        epsilon=rule.epsilon,
        windows_wanted=rule.windows,
    )


class WindowStore:
    """The windows of all runs. A run's lie in the slot of its other keys."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def state(self, run_id: str) -> WindowState:
        """Return the end of a run's last window."""
        found = self._store.redis.hgetall(run_prefix(run_id) + "window")
        if not found:
            return WindowState()
        fields = {name.decode(): value.decode() for name, value in found.items()}
        numbers = {name: int(fields[name]) for name in ("tasks", "seen", "announced")}
        windows = Windows(tuple(json.loads(fields["drifts"])), int(fields["below"]))
        return WindowState(fields["base"], windows=windows, **numbers)

    def counts(
        self, run_id: str, state: WindowState, sizes: Mapping[str, int]
    ) -> dict[str, npt.NDArray[np.int64]] | None:
        """Return the counts at the end of a window; None where Redis does not have all of them."""
        found = {}
        for language, size in sizes.items():
            with self._store.node(run_id) as node:
                pieces = node.mget(_keys(run_id, state.base, language, size))
            counts = np.frombuffer(b"".join(piece or b"" for piece in pieces), ">i8")
            if len(counts) != size:
                return None
            found[language] = counts.astype(np.int64)
        return found

    def close(self, run_id: str, before: WindowState, after: WindowState, counts: Raw) -> bool:
        """End a window with these counts; False if someone else has ended it."""
        after = replace(after, base=secrets.token_hex(8))
        sizes = {language: len(array) for language, array in counts.items()}
        with self._store.node(run_id) as node:
            pipe = node.pipeline(transaction=False)
            for language, array in counts.items():
                keys = _keys(run_id, after.base, language, len(array))
                for first, key in zip(range(0, len(array), RANGE), keys, strict=True):
                    pipe.set(key, array[first : first + RANGE].astype(">i8").tobytes())
            pipe.execute()
        closed = bool(self._store.call("close_window", run_id, before.base, *_fields(after)))
        self._forget(run_id, before.base if closed else after.base, sizes)
        return closed

    def _forget(self, run_id: str, base: str, sizes: Mapping[str, int]) -> None:
        with self._store.node(run_id) as node:
            pipe = node.pipeline(transaction=False)
            for language, size in sizes.items():
                for key in _keys(run_id, base, language, size):
                    pipe.delete(key)
            pipe.execute()


def _keys(run_id: str, base: str, language: str, size: int) -> list[str]:
    prefix = f"{run_prefix(run_id)}window:{base}:{language}:"
    return [f"{prefix}{number}" for number in range(-(-size // RANGE))]


def _fields(state: WindowState) -> Iterator[str | int]:
    """Yield names and values in turn."""
    yield from ("base", state.base, "tasks", state.tasks, "seen", state.seen)
    yield from ("announced", state.announced, "below", state.windows.below)
    yield from ("drifts", json.dumps(state.windows.drifts))
