"""The processes that train together: ranks of one torch.distributed group, or one process alone."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from clipcurate.training.model import pick_device

# How long a rank waits for another one. A dead one is noticed at once; this is for a slow one.
PATIENCE = timedelta(minutes=30)
# How long the others wait at the end, while rank 0 evaluates, exports and writes.
FINAL_PATIENCE = timedelta(hours=24)


@dataclass(frozen=True)
class World:
    """This process's place: `rank` of `size`, and its device.

    `votes` is a group that exchanges small tensors on the CPU; None where size is 1.
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"
    votes: Any = None

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def wrapped(self, module: nn.Module) -> nn.Module:
        """Return the module with its gradients averaged over all ranks during backward."""
        if self.size == 1:
            return module
        return DistributedDataParallel(
            module, broadcast_buffers=False, gradient_as_bucket_view=True
        )

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a tensor over all ranks; on a GPU without waiting for it."""
        if self.size == 1:
            return value
        total = value.clone()
        dist.all_reduce(total)
        return total / self.size

    def totals(self, numbers: Sequence[int]) -> list[int]:
        """Return each number's sum over all ranks: the same answer for every rank."""
        if self.size == 1:
            return list(numbers)
        total = torch.tensor(numbers, dtype=torch.int64)
        dist.all_reduce(total, group=self.votes)
        return total.tolist()

    def any(self, here: bool) -> bool:
        """Return whether something is so on any rank: the same answer for every rank."""
        return bool(self.totals([here])[0])

    def agreed(self, text: str) -> str:
        """Return rank 0's text on every rank."""
        if self.size == 1:
            return text
        box = [text]
        dist.broadcast_object_list(box, src=0, group=self.votes)
        return box[0]


def unsynced(module: nn.Module, *, last: bool) -> Any:
    """Return the context in which a backward only adds up this rank's gradients, unless `last`."""
    if last or not isinstance(module, DistributedDataParallel):
        return nullcontext()
    return module.no_sync()


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module that `World.wrapped` was given."""
    inner: nn.Module = module.module if isinstance(module, DistributedDataParallel) else module
    return inner


@contextmanager
def joined() -> Iterator[World]:
    """Yield this process's world, as torchrun's environment says; alone without torchrun.

    nccl on GPUs, gloo on CPUs. Ranks that succeed leave together, so that all start again where one
    fails at the end. One that fails leaves its groups only by ending: it can say why before the
    others notice.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    kind = pick_device()
    if size == 1:
        yield World(device=kind)
        return
    device = f"cuda:{os.environ['LOCAL_RANK']}" if kind == "cuda" else "cpu"
    if kind == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=PATIENCE)
    votes = dist.new_group(backend="gloo", timeout=PATIENCE)
    end = dist.new_group(backend="gloo", timeout=FINAL_PATIENCE)
    yield World(dist.get_rank(), size, device, votes)
    dist.barrier(group=end)
    dist.destroy_process_group()
