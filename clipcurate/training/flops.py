"""What a model costs per pair, and what devices can do.

*Model FLOPs* are three times those of the forward pass (a backward pass costs twice a forward one:
Kaplan et al. 2020, arXiv 2001.08361), a multiplication and an addition counted as two. The forward
pass is counted by torch's own counter on tensors without data. As everywhere, recomputing does not
count (Chowdhery et al. 2022, arXiv 2204.02311, appendix B: "model FLOPs utilization").
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from clipcurate.training.config import ModelConfig
from clipcurate.training.model import architecture, build
from clipcurate.training.text import encode_text

PASSES = 3
PAIRS = 2
"""Counted at once: some models do not take a single pair."""


@dataclass(frozen=True)
class Device:
    """A kind of accelerator.

    `tflops` are dense bf16 products per second (no sparsity, accumulated in float32), in 10¹²;
    `memory` is in bytes, `source` the vendor's data sheet.
    """

    name: str
    tflops: float
    memory: int
    source: str


GIB = 2**30
DEVICES = {
    "a100-40": Device("A100 40 GB", 312, 40 * GIB, "NVIDIA A100 Tensor Core GPU datasheet"),
    "a100-80": Device("A100 80 GB", 312, 80 * GIB, "NVIDIA A100 Tensor Core GPU datasheet"),
    "h100": Device("H100 SXM", 989.4, 80 * GIB, "NVIDIA H100 Tensor Core GPU datasheet"),
    "h200": Device("H200 SXM", 989.4, 141 * 10**9, "NVIDIA H200 Tensor Core GPU datasheet"),
    # Its tensor cores know fp16 only; the trainer's bf16 runs slower there than this says.
    "v100-32": Device("V100 32 GB", 125, 32 * GIB, "NVIDIA V100 Tensor Core GPU datasheet (fp16)"),
    "l40s": Device("L40S", 362, 48 * 10**9, "NVIDIA L40S datasheet"),
    "rtx4090": Device("RTX 4090", 165.2, 24 * 10**9, "NVIDIA Ada GPU architecture whitepaper"),
}

# By the whole name that torch gives a GPU: PCIe, NVL and laptop cards and slices of one are slower.
BY_NAME = {
    r"NVIDIA A100-(SXM4|SXM|PCIE)-[48]0GB": "a100-80",
    r"NVIDIA A100 80GB PCIe": "a100-80",
    r"NVIDIA H100 80GB HBM3": "h100",
    r"NVIDIA H200": "h200",
    r"(Tesla|NVIDIA) V100-SXM[23]-(16|32)GB": "v100-32",
    r"NVIDIA L40S": "l40s",
    r"NVIDIA GeForce RTX 4090": "rtx4090",
}


class ModelFlops:
    """FLOPs of a model by length of text."""

    def __init__(self, config: ModelConfig) -> None:
        with torch.device("meta"):
            self.model = build(architecture(config))
        self.model.eval()
        self._size = config.image_size
        self.text = lru_cache(self._text)
        self.image = self._image()

    def pair(self, length: int) -> int:
        """Return the model FLOPs to train on one pair whose text has `length` tokens."""
        return PASSES * (self.image + self.text(length))

    def pairs(self, images: int, shapes: Iterable[torch.Size]) -> int:
        """Return those of a batch whose texts are in groups of shape (n, length), as processed."""
        texts = sum(count * self.text(length) for count, length in shapes)
        return PASSES * (images * self.image + texts)

    def _image(self) -> int:
        """Return the FLOPs of encoding one image."""
        images = torch.empty(PAIRS, 3, self._size, self._size, device="meta")
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            self.model.encode_image(images)  # type: ignore[operator]
        return int(counter.get_total_flops()) // PAIRS

    def _text(self, length: int) -> int:
        """Return the FLOPs of encoding one text of `length` tokens, padding included."""
        tokens: Tensor = torch.zeros(PAIRS, length, dtype=torch.long, device="meta")
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            encode_text(self.model, tokens)
        return int(counter.get_total_flops()) // PAIRS


def peak_of(device: torch.device) -> float | None:
    """Return the FLOP/s of a device by its data sheet; None for a CPU or an unknown GPU."""
    if device.type != "cuda":
        return None
    return named_peak(torch.cuda.get_device_name(device))


def named_peak(name: str) -> float | None:
    """Return the FLOP/s of the GPU that torch calls `name`; None if the table lacks it."""
    kind = next((kind for full, kind in BY_NAME.items() if re.fullmatch(full, name)), None)
    return None if kind is None else DEVICES[kind].tflops * 1e12
