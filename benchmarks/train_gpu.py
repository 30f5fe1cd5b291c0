"""Training speed on one device against open_clip's own loop, and what each change brought.

    python benchmarks/train_gpu.py --output results.json             # ViT-B/32 on a GPU: minutes
    python benchmarks/train_gpu.py --device cpu                      # that the script works: tiny

Every rung trains the same model on the same pairs, already decoded: random pixels, captions with
the lengths of real ones (13.5 tokens on average, some of 77). open_clip's rungs are its own
`train_one_epoch` with the normalised float images that its loader gives; ours take uint8. Executed
FLOPs are those of the products and attentions that a rung really computes, by torch's counter.

All rungs stay ready side by side, and each round gives every rung its turn, so that a machine that
is slower for a while is so for all; medians over the rounds count. On a CPU the rungs that differ
by torch.compile alone are equal: how far their figures lie apart is the noise.
"""

import argparse
import logging
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import torch
from harness import report
from harness.rungs import Runner, Setting, measured, ready
from torch import Tensor

from clipcurate.training.compat import open_clip
from clipcurate.training.config import ComputeConfig, config_for
from clipcurate.training.data import Batch, normalise
from clipcurate.training.loop import initial_state, train_steps
from clipcurate.training.model import create_model, pick_device
from clipcurate.training.optim import create_optimizer
from clipcurate.training.products import product_rate

PAPER_TFLOPS = 989  # H100 and H200, bf16 products without sparsity, by NVIDIA's data sheet
DISTINCT = 4
LENGTH_MU, LENGTH_SIGMA = 2.48, 0.5  # log-normal with mean 13.5: e^(μ + σ²/2)


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

    def close(self) -> None:
        """Do nothing: nothing runs beside it."""


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


def setting_of(args: argparse.Namespace) -> Setting:
    on_gpu = args.device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(args.device)
    pairs = args.batch or (pairs_for(args.device) if on_gpu else 64)
    overrides = {"batch_size": str(pairs), "seen_pairs": str(pairs * 10**6), "lr": "1e-5"}
    config = config_for(args.preset or ("b32_400m" if on_gpu else "tiny"), overrides)
    return Setting(config, torch.device(args.device), args.seconds, args.rounds)


def pairs_for(device: str) -> int:
    """Return pairs that leave room for the rungs beside: of a ViT-B/32, some 3 GB each."""
    return 2048 if torch.cuda.get_device_properties(device).total_memory > 100 * 2**30 else 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", help="b32_400m; tiny on a CPU")
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
    about = {
        "preset": setting.config.preset,
        "pairs_per_step": setting.pairs,
        "device": str(setting.device),
    }
    about["compiled"] = on_gpu  # on a CPU the rungs of torch.compile run eagerly
    gpu = torch.cuda.get_device_name(setting.device) if on_gpu else None
    report({**about, "gpu": gpu, "product_tflops": rate, "rungs": results}, args.output)


if __name__ == "__main__":
    main()
