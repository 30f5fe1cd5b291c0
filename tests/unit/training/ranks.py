"""A batch, and its gradient computed in various ways; what a rank of a test's world runs."""

from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from clipcurate.training.compat import open_clip
from clipcurate.training.config import ComputeConfig, TrainConfig, config_for
from clipcurate.training.data import Batch, normalise
from clipcurate.training.gradients import Inputs, add_gradients, contrastive_loss
from clipcurate.training.loop import initial_state, train_steps
from clipcurate.training.model import Towers, create_model, create_tokenizer
from clipcurate.training.text import trimmer_of
from clipcurate.training.transfer import Arranger
from clipcurate.training.world import World

PAIRS = 24
Gradient = list[Tensor]


def a_batch(pairs: int = PAIRS) -> Batch:
    """Return random images with texts of various lengths."""
    generator = torch.Generator().manual_seed(7)
    images = torch.randint(0, 256, (pairs, 32, 32, 3), generator=generator, dtype=torch.uint8)
    texts = [f"{'word ' * (number * 5 % 23)}{number}" for number in range(pairs)]
    return Batch(images, create_tokenizer(config_for("tiny").model)(texts), 0, 0)


def share(batch: Batch, world: World) -> Batch:
    return Batch(
        batch.images[world.rank :: world.size], batch.tokens[world.rank :: world.size], 0, 0
    )


def gradient(world: World, compute: ComputeConfig, batch: Batch | None = None) -> Gradient:
    """Return loss and gradients in float64, as this rank of a world computes them."""
    model = create_model(config_for("tiny").model, 3).double()
    arranger = Arranger(trimmer_of(model), compute.micro_batch, compute.text_groups)
    given = arranger.arrange(batch or share(a_batch(), world))
    inputs = Inputs(given.images, given.texts, given.parts, torch.float64)
    towers = world.wrapped(Towers(model, compute))
    loss = add_gradients(towers, inputs, contrastive_loss(world), (0, 0))
    return [world.mean(loss), *(p.grad for p in model.parameters() if p.grad is not None)]


def open_clips_gradient() -> Gradient:
    """Return loss and gradients by open_clip's own model and loss, on the whole batch."""
    model = create_model(config_for("tiny").model, 3).double()
    batch = a_batch()
    loss = open_clip.ClipLoss()(*model(normalise(batch.images).double(), batch.tokens))
    loss.backward()
    return [loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


def steps_config() -> TrainConfig:
    settings = {"batch_size": PAIRS, "seen_pairs": 4 * PAIRS, "warmup_steps": 2, "micro_batch": 5}
    return config_for("tiny", {name: str(value) for name, value in settings.items()})


def steps(world: World) -> Gradient:
    """Return the losses and the weights of a few steps, in float64."""
    config = steps_config()
    state = initial_state(config, "cpu")
    state.model.double()
    taken = train_steps(state, [share(a_batch(), world)] * config.total_steps, config, world)
    losses = torch.tensor([step.read().loss for step in taken], dtype=torch.float64)
    return [losses, *(p.detach() for p in state.model.parameters())]


def run_rank(rank: int, size: int, folder: str) -> None:
    """Compute as one rank of a world of real processes, and leave the results in `folder`."""
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
    world = World(rank, size, "cpu", dist.new_group(backend="gloo"))
    results = {
        "whole": gradient(world, ComputeConfig(text_groups=0)),
        "trimmed micro-batches": gradient(world, ComputeConfig(micro_batch=5, text_groups=2)),
        "steps": steps(world),
        "totals": [torch.tensor(world.totals([rank, 1]))],
    }
    texts = [world.agreed(f"of rank {rank}")]
    torch.save(results | {"texts": texts}, Path(folder) / f"rank-{rank}.pt")
    dist.destroy_process_group()
