import copy
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipcurate.datasets.images import ImageIndex
from clipcurate.errors import TrainingError
from clipcurate.training import loop
from clipcurate.training.compat import open_clip
from clipcurate.training.config import TrainConfig
from clipcurate.training.data import Batch, TrainingData, normalise
from clipcurate.training.model import create_tokenizer

Make = Callable[..., TrainConfig]


def batches(url: str, config: TrainConfig) -> list[Batch]:
    data = TrainingData(ImageIndex.open(url), config, create_tokenizer(config.model))
    return list(data.batches(0, config.total_steps))


def take(state: loop.TrainState, made: list[Batch], config: TrainConfig) -> list[loop.StepRecord]:
    return [step.read() for step in loop.train_steps(state, made, config)]


def test_loss_falls_on_separable_pairs(dataset_url: str, make_config: Make) -> None:
    config = make_config(seen_pairs=640, warmup_steps=4, lr="2e-3")
    state = loop.initial_state(config, "cpu")
    records = take(state, batches(dataset_url, config), config)
    assert [record.step for record in records] == list(range(1, 41))
    assert records[0].loss == pytest.approx(math.log(16), rel=0.3)
    # 8 kinds of image, 16 per batch: equal captions keep the loss above ln 2.
    assert sum(record.loss for record in records[-5:]) / 5 < 0.65 * records[0].loss


def test_first_step_equals_open_clips_model_loss_and_adamw(
    dataset_url: str, make_config: Make
) -> None:
    config = make_config(seen_pairs=16, warmup_steps=0, text_groups=0)
    state = loop.initial_state(config, "cpu")
    model = copy.deepcopy(state.model)
    (batch,) = batches(dataset_url, config)
    (record,) = take(state, [batch], config)

    loss = open_clip.ClipLoss()(*model(normalise(batch.images), batch.tokens))
    loss.backward()
    exclude = [p for n, p in model.named_parameters() if p.ndim < 2 or "ln" in n]
    others = [p for n, p in model.named_parameters() if not (p.ndim < 2 or "ln" in n)]
    groups = [{"params": exclude, "weight_decay": 0.0}, {"params": others, "weight_decay": 0.2}]
    torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98), eps=1e-6).step()

    norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    assert record.loss == loss.item()
    assert record.grad_norm == pytest.approx(norm.item(), rel=1e-5)
    for ours, theirs in zip(state.model.parameters(), model.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-7)


def test_clipping_limits_the_gradient(dataset_url: str, make_config: Make) -> None:
    config = make_config(seen_pairs=16, grad_clip="0.01")
    state = loop.initial_state(config, "cpu")
    (record,) = take(state, batches(dataset_url, config), config)
    assert record.grad_norm > 0.01
    gradients = [p.grad for p in state.model.parameters()]
    assert torch.nn.utils.get_total_norm(gradients).item() == pytest.approx(0.01, rel=1e-3)


def test_a_non_finite_loss_stops_before_it_reaches_the_weights(
    dataset_url: str, make_config: Make
) -> None:
    config = make_config(seen_pairs=48)
    state = loop.initial_state(config, "cpu")
    with torch.no_grad():
        state.model.visual.proj[0, 0] = float("nan")
    before = copy.deepcopy(state.model.state_dict())
    *_, last = loop.train_steps(state, batches(dataset_url, config), config)
    with pytest.raises(TrainingError, match="step 1: loss nan"):  # though two more were asked for
        last.read()
    after = state.model.state_dict()
    assert all(torch.equal(before[n], after[n]) for n in before if n != "visual.proj")


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5))
def test_digests_of_ranks_add_up_as_int64(digests: list[int]) -> None:
    """What all_reduce does: int64 sums that wrap around."""
    total = torch.tensor([loop.as_int64(digest) for digest in digests]).sum()
    assert int(total) % 2**64 == sum(digests) % 2**64
