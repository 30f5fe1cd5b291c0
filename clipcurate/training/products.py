"""What a device really does: the rate of plain products."""

import math
import time

import torch

ROUNDS = 10


def product_rate(device: str) -> float:
    """Return the FLOP/s of square products: bf16 on a GPU, float32 on a CPU; best of ten."""
    on_gpu = device.startswith("cuda")
    size, dtype = (8192, torch.bfloat16) if on_gpu else (1024, torch.float32)
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = math.inf
    for _ in range(ROUNDS):
        start = _waited(device)
        left @ right
        best = min(best, _waited(device) - start)
    return 2 * size**3 / best


def _waited(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()
