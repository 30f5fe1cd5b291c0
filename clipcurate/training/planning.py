"""Memory and time of a training before it is started, from FLOPs and what autograd keeps."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from clipcurate.errors import InvalidInputError
from clipcurate.training.config import ModelConfig, TrainConfig
from clipcurate.training.flops import PASSES, Device, ModelFlops
from clipcurate.training.model import Towers, architecture, build
from clipcurate.training.text import trimmer_of
from clipcurate.training.transfer import AHEAD

# Share of the data sheet's rate that a training attains. Published: open_clip's ViT-B/32 on A100s,
# 786 pairs/s each, is 35 of 312 TFLOP/s (LAION-400M, open_clip's docs/PRETRAINED.md).
EFFICIENCY = 0.11

TRIMMED = 32
"""Tokens per text as processed, where texts are cut: captions average 13.5, a few are long."""
IMAGE_BYTES = 25_000
"""A JPEG of 256 pixels at quality 90, with its text and tar headers."""
RESERVE = 2**30
"""CUDA's context, kernels and communication buffers."""
FRAGMENTED = 1.1
"""What the allocator holds over what is in use."""

WIDE, STATES, PROBED = 4, 2, 4
"""Bytes of a float32; AdamW's moments per weight; pairs that are measured, and twice as many."""
LOGIT_COPIES = 6
"""Two matrices of logits, each with its log-softmax and its gradient."""


@dataclass(frozen=True)
class Activations:
    """Bytes that autograd keeps: per pair of all layers, or of one block if it is recomputed.

    `bf16_weights` are autocast's copies of the weights, there once for all pairs. It holds
    them until a forward pass ends, so also where activations are recomputed.
    """

    whole: int
    checkpointed: int
    bf16_weights: int


@dataclass(frozen=True)
class Memory:
    """Bytes on each device."""

    weights: int
    gradients: int
    optimizer: int
    bf16_weights: int
    activations: int
    loss: int
    inputs: int

    @property
    def total(self) -> int:
        """All of it, with the reserve and what fragmentation takes."""
        of_weights = self.weights + self.gradients + self.optimizer + self.bf16_weights
        of_pairs = self.activations + self.loss + self.inputs
        return RESERVE + int((of_weights + of_pairs) * FRAGMENTED)


@dataclass(frozen=True)
class Way:
    """How a step may be computed so that it fits; `repeats` are forward passes done once more."""

    micro_batch: int
    checkpointing: bool
    repeats: int
    memory: Memory


@dataclass(frozen=True)
class Forecast:
    """A training on so many devices: `way` is None where it does not fit; `hours` are wall time."""

    devices: int
    way: Way | None
    pairs_per_second: float
    hours: float

    @property
    def device_hours(self) -> float:
        """Devices times hours."""
        return self.devices * self.hours

    @property
    def loader_bytes(self) -> float:
        """Bytes per second that storage and loader must deliver, to all devices together."""
        return self.pairs_per_second * IMAGE_BYTES


class Planner:
    """Plans one training for any number of devices of a kind."""

    def __init__(self, config: TrainConfig, device: Device, efficiency: float) -> None:
        """Count and measure the model, without data and without its weights.

        Raises:
            InvalidInputError: unknown model, or an efficiency that is no share.
        """
        if not 0 < efficiency <= 1:
            raise InvalidInputError(f"efficiency {efficiency:g} is not within (0, 1]")
        self._config, self._device, self._efficiency = config, device, efficiency
        flops = ModelFlops(config.model)
        full = config.model.context_length
        cut = config.compute.text_groups > 0 and trimmer_of(flops.model).pool_type is not None
        self.tokens = min(TRIMMED, full) if cut else full
        self.pair_flops = flops.pair(self.tokens)
        self.parameters = sum(p.numel() for p in flops.model.parameters())
        self._width = architecture(config.model)["embed_dim"]
        self.activations = activations_of(config.model, full)

    def forecast(self, devices: int) -> Forecast:
        """Return what to expect of `devices`. Raises InvalidInputError: they cannot share lanes."""
        data = self._config.data
        if data.lanes % devices:
            raise InvalidInputError(
                f"{devices} devices cannot share {data.lanes} lanes evenly; take a divisor of them"
            )
        way = min(self._ways(devices), key=lambda way: way.repeats, default=None)
        if way is None:
            return Forecast(devices, None, 0.0, float("inf"))
        executed = self.pair_flops * (PASSES + way.repeats) / PASSES
        rate = devices * self._device.tflops * 1e12 * self._efficiency / executed
        hours = self._config.total_steps * data.batch_size / rate / 3600
        return Forecast(devices, way, rate, hours)

    def _ways(self, devices: int) -> Iterator[Way]:
        """Yield the largest micro-batch that fits, without and with activation checkpointing."""
        share = self._config.data.batch_size // devices
        for checkpointing in (False, True):
            parts = 1
            while parts <= share:
                micro = -(-share // parts)
                memory = self.memory(devices, micro, checkpointing)
                if memory.total <= self._device.memory:
                    yield Way(micro, checkpointing, (parts > 1) + checkpointing, memory)
                    break
                parts *= 2

    def memory(self, devices: int, micro_batch: int, checkpointing: bool) -> Memory:
        """Return what each device holds at the peak of a step."""
        batch, size = self._config.data.batch_size, self._config.model.image_size
        share, weights = batch // devices, self.parameters * WIDE
        of_pair = self.activations.checkpointed if checkpointing else self.activations.whole
        features = STATES * batch * self._width * WIDE * 2
        return Memory(
            weights=weights,
            gradients=weights,
            optimizer=STATES * weights,
            bf16_weights=self.activations.bf16_weights,
            activations=micro_batch * of_pair,
            loss=LOGIT_COPIES * share * batch * WIDE + features,
            inputs=(AHEAD + 1) * share * size * size * 3,
        )


def activations_of(config: ModelConfig, length: int, pairs: int = PROBED) -> Activations:
    """Measure what autograd keeps of both towers under bf16 autocast, eager, by saved tensors.

    What `pairs` more pairs add is theirs; the rest is there once, however many there are.
    """
    whole, bf16_weights = _per_pair_and_once(config, length, False, pairs)
    inputs, _ = _per_pair_and_once(config, length, True, pairs)
    tree = architecture(config)
    layers = tree["vision_cfg"].get("layers", 1)
    deepest = max(sum(layers) if isinstance(layers, list | tuple) else layers, 1)
    block = max(whole - inputs, 0) // min(deepest, tree["text_cfg"].get("layers", 12))
    return Activations(whole, min(inputs + block, whole), bf16_weights)


def _per_pair_and_once(
    config: ModelConfig, length: int, checkpointing: bool, pairs: int
) -> tuple[int, int]:
    few, many = (_kept(config, length, checkpointing, n) for n in (pairs, 2 * pairs))
    per_pair = (many - few) // pairs
    return per_pair, few - pairs * per_pair


def _kept(config: ModelConfig, length: int, checkpointing: bool, pairs: int) -> int:
    """Return the bytes that a forward pass of so many pairs saves, beside the weights."""
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage()._cdata] = tensor
        return tensor

    compute = replace(
        TrainConfig("").compute,
        precision="bf16",
        compile="off",
        activation_checkpointing=checkpointing,
    )
    with FakeTensorMode():
        towers = Towers(build(architecture(config)), compute).train()
        images = torch.empty(pairs, 3, config.image_size, config.image_size)
        tokens = torch.zeros(pairs, length, dtype=torch.long)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            towers(images, tokens)
        own = {parameter.untyped_storage()._cdata for parameter in towers.parameters()}
        return sum(t.untyped_storage().nbytes() for key, t in saved.items() if key not in own)
