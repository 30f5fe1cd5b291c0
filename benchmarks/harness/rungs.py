"""Loops that are compared side by side: each is warm before any is measured, and all take turns."""

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch.utils.flop_counter import FlopCounterMode

from clipcurate.training.config import TrainConfig
from harness import interleaved, median_ratio

WARM_UP = 5


@dataclass(frozen=True)
class Setting:
    """What all rungs share: model, device, pairs per step, how long and how often each runs."""

    config: TrainConfig
    device: torch.device
    seconds: float
    rounds: int

    @property
    def pairs(self) -> int:
        """Pairs per step."""
        return self.config.data.batch_size


class Runner(Protocol):
    """Takes so many steps, and waits for them."""

    def __call__(self, steps: int) -> None:
        """Take steps."""

    def close(self) -> None:
        """Let go of what runs beside."""


@dataclass(frozen=True)
class Rung:
    """A loop that is warm: steps that it takes per round, FLOPs per pair, its own peak memory."""

    run: Runner
    steps: int
    flops: float
    peak_gib: float | None


@contextmanager
def ready(make: Callable[[bool], Runner], setting: Setting, compiles: bool) -> Iterator[Rung]:
    """Yield a rung that has taken its first steps."""
    gc.collect()
    on_gpu = setting.device.type == "cuda"
    flops = counted(make, setting)
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(setting.device)
    others = torch.cuda.memory_allocated(setting.device) if on_gpu else 0
    with closed(make(compiles)) as run:
        run(WARM_UP)
        start = time.perf_counter()
        run(2)
        once = (time.perf_counter() - start) / 2
        most = torch.cuda.max_memory_allocated(setting.device) if on_gpu else 0
        steps = max(1, math.ceil(setting.seconds / setting.rounds / once))
        yield Rung(run, steps, flops, (most - others) / 2**30 if on_gpu else None)


def measured(setting: Setting, made: dict[str, Rung]) -> dict[str, dict[str, Any]]:
    """Return the figures of each rung; its rate is the median over rounds."""
    work = {name: partial(rung.run, rung.steps) for name, rung in made.items()}
    taken = interleaved(work, setting.rounds, time.perf_counter)
    per_pair = {
        name: [seconds / (made[name].steps * setting.pairs) for seconds in rounds]
        for name, rounds in taken.items()
    }
    theirs = min(
        (times for name, times in per_pair.items() if name.startswith("open_clip")),
        key=statistics.median,
    )
    return {
        name: {
            "pairs_per_second": 1 / statistics.median(times),
            "rounds": [1 / time for time in times],
            "times_open_clip": median_ratio(theirs, times),
            "gflop_per_pair": made[name].flops / 1e9,
            "tflop_per_second": made[name].flops / 1e12 / statistics.median(times),
            "peak_gib": made[name].peak_gib,
        }
        for name, times in per_pair.items()
    }


def counted(make: Callable[[bool], Runner], setting: Setting) -> float:
    """Return the FLOPs per pair of one step, not compiled: the counter sees every product."""
    with closed(make(False)) as run, FlopCounterMode(display=False) as counter:
        run(1)
    return counter.get_total_flops() / setting.pairs


@contextmanager
def closed(run: Runner) -> Iterator[Runner]:
    """Yield a rung's loop, and close it."""
    try:
        yield run
    finally:
        run.close()
