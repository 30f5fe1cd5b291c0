"""Training speed on one device against open_clip's own loop, and what each change brought.

    python benchmarks/train_gpu.py --output results.json             # ViT-B/32 on a GPU: minutes
    python benchmarks/train_gpu.py --preset tiny --device cpu        # that the script works

Every rung trains the same model on the same pairs, already decoded: random pixels, captions with
the lengths of real ones (13.5 tokens on average, some of 77). open_clip's rungs are its own
`train_one_epoch` with the normalised float images that its loader gives; ours take uint8. Executed
FLOPs are those of the products and attentions that a rung really computes, by torch's counter.

All rungs stay ready side by side, and each round gives every rung its turn, so that a machine that
is slower for a while is so for all; medians over the rounds count. On a CPU the rungs that differ
by torch.compile alone are equal: how far their figures lie apart is the noise.
"""

import argparse
import gc
import logging
import math
import statistics
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from harness import interleaved, median_ratio, report
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from clipcurate.training.compat import open_clip
from clipcurate.training.config import ComputeConfig, TrainConfig, config_for
from clipcurate.training.data import Batch, normalise
from clipcurate.training.loop import initial_state, train_steps
from clipcurate.training.model import create_model, pick_device
from clipcurate.training.optim import create_optimizer
from clipcurate.training.products import product_rate

PAPER_TFLOPS = 989  # H100 and H200, bf16 products without sparsity, by NVIDIA's data sheet
DISTINCT = 4
WARM_UP = 5
LENGTH_MU, LENGTH_SIGMA = 2.48, 0.5  # log-normal with mean 13.5: e^(μ + σ²/2)


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


def tokens_of(count: int, context: int, generator: torch.Generator) -> Tensor:
    """Return token ids whose lengths, start and end included, are those of captions."""
    normal = torch.randn(count, generator=generator)
    lengths = (LENGTH_MU + LENGTH_SIGMA * normal).exp().round().clamp(3, context).long()
    tokens = torch.randint(1, 49_000, (count, context), generator=generator)
    tokens[torch.arange(context) >= lengths[:, None]] = 0
    tokens[:, 0] = 49_406
    tokens[torch.arange(count), lengths - 1] = 49_407
    return tokens


def made_up(setting: Setting) -> list[Batch]:
    """Return a few batches, to be repeated."""
    generator, size = torch.Generator().manual_seed(0), setting.config.model.image_size
    shape, context = (setting.pairs, size, size, 3), setting.config.model.context_length
    return [
        Batch(
            torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8),
            tokens_of(setting.pairs, context, generator),
            0,
            0,
        )
        for _ in range(DISTINCT)
    ]


def waited(device: torch.device) -> float:
    """Wait for the device and return the time."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def loaded(batch: Batch, setting: Setting) -> tuple[Tensor, Tensor]:
    """Return what open_clip's data loader hands over: normalised floats, page-locked."""
    pair = normalise(batch.images), batch.tokens
    return (pair[0].pin_memory(), pair[1].pin_memory()) if setting.device.type == "cuda" else pair


class OpenClip:
    """open_clip's training loop, as its main program sets it up for one device."""

    def __init__(self, setting: Setting, pool: list[tuple[Tensor, Tensor]], compiled: bool) -> None:
        on_gpu = setting.device.type == "cuda"
        self._pool = pool
        self._device = setting.device
        model = create_model(setting.config.model, 0, str(setting.device))
        model.output_dict = True
        groups = create_optimizer(model, setting.config.optim).param_groups
        for group in groups:
            group["fused"] = None  # open_clip leaves the choice to torch
        self._optimizer = torch.optim.AdamW(groups)
        self._model = torch.compile(model) if compiled else model
        self._args = Namespace(
            device=str(setting.device), precision="amp_bf16" if on_gpu else "fp32", distill=False,
            accum_freq=1, skip_scheduler=True, horovod=False, grad_clip_norm=None, rank=0,
            world_size=1, batch_size=setting.pairs, log_every_n_steps=100, wandb=False,
            local_rank=0, log_local=False,
        )  # fmt: skip

    def __call__(self, steps: int) -> None:
        """Take steps and wait for them."""
        from open_clip_train.train import train_one_epoch

        class Loader:
            num_batches, num_samples = steps, steps * self._args.batch_size

            def __iter__(loader) -> Iterator[tuple[Tensor, Tensor]]:  # noqa: N805
                return (self._pool[step % DISTINCT] for step in range(steps))

        info = SimpleNamespace(dataloader=Loader(), set_epoch=lambda _: None)
        loss = open_clip.ClipLoss()
        train_one_epoch(
            self._model, {"train": info}, loss, 0, self._optimizer, None, None, None, self._args
        )
        waited(self._device)


class Ours:
    """Our loop with some of its settings changed."""

    def __init__(self, setting: Setting, batches: list[Batch], compute: ComputeConfig) -> None:
        self._config = replace(setting.config, compute=compute)
        self._batches = batches
        self._state = initial_state(self._config, str(setting.device))
        self._steps = train_steps(self._state, self._forever(), self._config)

    def _forever(self) -> Iterator[Batch]:
        while True:
            yield from self._batches

    def __call__(self, steps: int) -> None:
        """Take steps and wait for them."""
        for _ in range(steps):
            taken = next(self._steps)
        taken.read()

    def close(self) -> None:
        """Stop the thread that copies ahead."""
        self._steps.close()


Runner = OpenClip | Ours


def rungs(setting: Setting, batches: list[Batch]) -> dict[str, Callable[[bool], Runner]]:
    """Return how to make each rung; its argument says whether graphs may be compiled."""
    full = ComputeConfig(compile="off", text_groups=0)
    compiled = replace(full, compile="on")
    trimmed = replace(compiled, text_groups=4)
    halved = replace(trimmed, micro_batch=setting.pairs // 2)
    ways = {
        "clipcurate: full texts, eager": full,
        "+ torch.compile": compiled,
        "+ texts cut to what they need": trimmed,
        "(with two micro-batches)": halved,
        "(with activation checkpointing)": replace(trimmed, activation_checkpointing=True),
    }

    def ours(way: ComputeConfig) -> Callable[[bool], Runner]:
        return lambda may: Ours(setting, batches, way if may else replace(way, compile="off"))

    pool = [loaded(batch, setting) for batch in batches]
    return {
        "open_clip": lambda _: OpenClip(setting, pool, compiled=False),
        "open_clip, compiled": lambda may: OpenClip(setting, pool, compiled=may),
        **{name: ours(way) for name, way in ways.items()},
    }


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
    """Yield a rung's loop, and stop the thread that copies ahead of ours."""
    try:
        yield run
    finally:
        if isinstance(run, Ours):
            run.close()


def setting_of(args: argparse.Namespace) -> Setting:
    on_gpu = args.device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(args.device)
    pairs = args.batch or (pairs_for(args.device) if on_gpu else 64)
    overrides = {"batch_size": str(pairs), "seen_pairs": str(pairs * 10**6), "lr": "1e-5"}
    config = config_for(args.preset, overrides)
    return Setting(config, torch.device(args.device), args.seconds, args.rounds)


def pairs_for(device: str) -> int:
    """Return pairs that leave room for the rungs beside: of a ViT-B/32, some 3 GB each."""
    return 2048 if torch.cuda.get_device_properties(device).total_memory > 100 * 2**30 else 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="b32_400m")
    parser.add_argument("--device", default=pick_device())
    parser.add_argument("--batch", type=int, default=0, help="pairs per step")
    parser.add_argument("--seconds", type=float, default=15.0, help="measured per rung, in all")
    parser.add_argument("--rounds", type=int, default=5, help="in which every rung has a turn")
    parser.add_argument("--threads", type=int, default=1, help="of a CPU")
    parser.add_argument("--output", type=Path, help="write the results here too, as JSON")
    args = parser.parse_args()
    logging.disable(logging.INFO)
    setting = setting_of(args)
    on_gpu = setting.device.type == "cuda"
    if not on_gpu:
        torch.set_num_threads(args.threads)
    rate = product_rate(args.device) / 1e12
    with ExitStack() as stack:
        made = {
            name: stack.enter_context(ready(make, setting, compiles=on_gpu))
            for name, make in rungs(setting, made_up(setting)).items()
        }
        results = measured(setting, made)
    for found in results.values():
        found["of_product_rate"] = found["tflop_per_second"] / rate
        found["of_paper"] = found["tflop_per_second"] / PAPER_TFLOPS if on_gpu else None
    about = {"preset": args.preset, "pairs_per_step": setting.pairs, "device": str(setting.device)}
    about["compiled"] = on_gpu  # on a CPU the rungs of torch.compile run eagerly
    gpu = torch.cuda.get_device_name(setting.device) if on_gpu else None
    report({**about, "gpu": gpu, "product_tflops": rate, "rungs": results}, args.output)


if __name__ == "__main__":
    main()
