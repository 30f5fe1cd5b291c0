"""In float64, every way to compute a step gives the gradient of open_clip's model and loss."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp

from clipcurate.errors import InvalidInputError
from clipcurate.training.config import ComputeConfig, ModelConfig, config_for
from clipcurate.training.gradients import refuse_coupled
from clipcurate.training.model import create_model
from clipcurate.training.world import World

from .ranks import Gradient, gradient, open_clips_gradient, run_rank, steps

RANKS = 2


@pytest.fixture(scope="module")
def expected() -> Gradient:
    return open_clips_gradient()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What real processes of one gloo group computed."""
    folder = tmp_path_factory.mktemp("ranks")
    mp.start_processes(run_rank, (RANKS, str(folder)), RANKS, start_method="spawn")
    return [torch.load(Path(folder) / f"rank-{rank}.pt") for rank in range(RANKS)]


def assert_equal(found: Gradient, expected: Gradient) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).norm() <= 1e-10 * theirs.norm()


@pytest.mark.parametrize(
    "compute",
    [
        ComputeConfig(text_groups=0),
        ComputeConfig(),
        ComputeConfig(micro_batch=12, text_groups=0),
        ComputeConfig(micro_batch=5, text_groups=2),
        ComputeConfig(micro_batch=1),
        ComputeConfig(micro_batch=7, activation_checkpointing=True),
    ],
)
def test_one_process_equals_open_clip(compute: ComputeConfig, expected: Gradient) -> None:
    assert_equal(gradient(World(), compute), expected)


@pytest.mark.parametrize("way", ["whole", "trimmed micro-batches"])
def test_two_ranks_equal_one_process(
    way: str, ranks: list[dict[str, Any]], expected: Gradient
) -> None:
    for rank in ranks:
        assert_equal(rank[way], expected)


def test_steps_of_two_ranks_equal_those_of_one(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert_equal(rank["steps"], steps(World()))


def test_ranks_agree(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert rank["totals"][0].tolist() == [1, 2]
        assert rank["texts"] == ["of rank 0"]


def test_a_model_that_normalises_over_the_batch_is_not_split() -> None:
    name = ModelConfig("RN50-quickgelu", image_size=64)
    with torch.device("meta"):
        model = create_model(name, 0, "meta")
    config = config_for("b32_400m", {"model.name": name.name})
    refuse_coupled(model, config, World())
    for split in (World(0, 2), World()):
        micro = config_for("b32_400m", {"model.name": name.name, "micro_batch": "64"})
        with pytest.raises(InvalidInputError, match="normalises over the batch"):
            refuse_coupled(model, config if split.size > 1 else micro, split)
