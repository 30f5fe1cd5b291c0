"""Windows of stability in Redis: what the last one found, and the counts at its end."""

import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from clipcurate.balancing.stability import StabilityRule, Windows, announced_pairs
from clipcurate.errors import InvalidInputError
from clipcurate.rpc.v1 import ledger_pb2 as pb
from services.counter.counts import Range, packed, ranges, unpacked
from services.counter.stages import FREEZE
from services.counter.store import Store, run_prefix

Raw = Mapping[str, npt.NDArray[np.int64]]
_FREEZES: dict[int, str] = {
    pb.STABILITY_UNSPECIFIED: "complete",
    pb.STABILITY_COMPLETE: "complete",
    pb.STABILITY_CONVERGED: "converged",
}


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


def frozen_when(spec: pb.RunSpec) -> str:
    """Return when a run's counts are frozen, as --freeze has it. Raises InvalidInputError."""
    if spec.freeze not in _FREEZES:
        raise InvalidInputError(
            f"counts are frozen when complete or converged, not at stability {spec.freeze}; use a "
            "client of the same version"
        )
    return _FREEZES[spec.freeze]


def announced_of(spec: pb.RunSpec, totals: Mapping[str, int]) -> int:
    """Return how many pairs the pool has: as announced, else as its counted tasks tell."""
    seen, rows = totals.get("pairs", 0), totals.get("planned_rows", 0)
    return announced_pairs(seen, rows, spec.planned_rows, spec.stability.announced_pairs)


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
        parts = list(ranges(sizes))
        with self._store.node(run_id) as node:
            pipe = node.pipeline(transaction=False)
            for part in parts:
                pipe.get(_key(run_id, state.base, part))
            values = pipe.execute()
        if None in values:
            return None
        found: dict[str, list[npt.NDArray[np.int64]]] = {language: [] for language in sizes}
        for part, value in zip(parts, values, strict=True):
            found[part.language].append(unpacked(part, value))
        return {language: np.concatenate(pieces) for language, pieces in found.items()}

    def close(self, run_id: str, before: WindowState, after: WindowState, counts: Raw) -> bool:
        """End a window with these counts; False if it has ended, or counts are being frozen."""
        after = replace(after, base=secrets.token_hex(8))
        sizes = {language: len(array) for language, array in counts.items()}
        with self._store.node(run_id) as node:
            pipe = node.pipeline(transaction=False)
            for part in ranges(sizes):
                pipe.set(_key(run_id, after.base, part), packed(part, counts))
            pipe.execute()
        values = (before.base, str(FREEZE), *_fields(after))
        closed = bool(self._store.call("close_window", run_id, *values))
        self._forget(run_id, before.base if closed else after.base, sizes)
        return closed

    def _forget(self, run_id: str, base: str, sizes: Mapping[str, int]) -> None:
        with self._store.node(run_id) as node:
            pipe = node.pipeline(transaction=False)
            for part in ranges(sizes):
                pipe.delete(_key(run_id, base, part))
            pipe.execute()


def _key(run_id: str, base: str, part: Range) -> str:
    return f"{run_prefix(run_id)}window:{base}:{part.language}:{part.number}"


def _fields(state: WindowState) -> Iterator[str | int]:
    """Yield names and values in turn."""
    yield from ("base", state.base, "tasks", state.tasks, "seen", state.seen)
    yield from ("announced", state.announced, "below", state.windows.below)
    yield from ("drifts", json.dumps(state.windows.drifts))
