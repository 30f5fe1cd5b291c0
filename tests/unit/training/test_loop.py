import copy
import math
from collections.abc import Callable

import pytest
import torch

from clipcurate.datasets.images import ImageIndex
from clipcurate.errors import TrainingError
from clipcurate.training import loop
from clipcurate.training.compat import open_clip
from clipcurate.training.config import TrainConfig, config_for
from clipcurate.training.data import Batch, TrainingData, normalise
from clipcurate.training.model import create_tokenizer

Make = Callable[..., TrainConfig]


def batches(url: str, config: TrainConfig) -> list[Batch]:
    data = TrainingData(ImageIndex.open(url), config, create_tokenizer(config.model))
    return list(data.batches(0, config.total_steps))


def test_loss_falls_on_separable_pairs(dataset_url: str, make_config: Make) -> None:
    config = make_config(seen_pairs=640, warmup_steps=4, lr="2e-3")
    state = loop.initial_state(config, "cpu")
    records = list(loop.train_steps(state, batches(dataset_url, config), config))
    assert [record.step for record in records] == list(range(1, 41))
    assert records[0].loss == pytest.approx(math.log(16), rel=0.3)
    # 8 kinds of image, 16 per batch: equal captions keep the loss above ln 2.
    assert sum(record.loss for record in records[-5:]) / 5 < 0.65 * records[0].loss


def test_learning_rate_warms_up_then_follows_a_cosine_to_zero() -> None:
    config = config_for("b32_400m")
    assert loop.learning_rate(config, 0) == pytest.approx(5e-4 / 2000)
    assert loop.learning_rate(config, 1999) == pytest.approx(5e-4)
    assert loop.learning_rate(config, 2000) == pytest.approx(5e-4)
    assert loop.learning_rate(config, 2000 + 388_625 // 2) == pytest.approx(2.5e-4, rel=1e-4)
    assert loop.learning_rate(config, config.total_steps - 1) < 1e-10


def test_a_training_shorter_than_its_warmup_works() -> None:
    config = config_for("tiny", {"seen_pairs": "1280"})
    rates = [loop.learning_rate(config, step) for step in range(config.total_steps)]
    assert rates == sorted(rates)


def test_weight_decay_spares_gains_biases_norms_and_the_scale() -> None:
    model = loop.initial_state(config_for("tiny"), "cpu").model
    spared = {name for name, p in model.named_parameters() if not loop.decays(name, p)}
    assert {"logit_scale", "visual.class_embedding", "ln_final.weight"} <= spared
    assert "transformer.resblocks.0.mlp.c_fc.bias" in spared
    assert not spared & {"visual.proj", "token_embedding.weight", "positional_embedding"}


def test_first_step_equals_open_clips_model_loss_and_adamw(
    dataset_url: str, make_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipcurate.training.model.TRIM_STEP", 24)  # open_clip's takes full texts
    config = make_config(seen_pairs=16, warmup_steps=0)
    state = loop.initial_state(config, "cpu")
    model = copy.deepcopy(state.model)
    (batch,) = batches(dataset_url, config)
    (record,) = loop.train_steps(state, [batch], config)

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
    (record,) = loop.train_steps(state, batches(dataset_url, config), config)
    assert record.grad_norm > 0.01
    gradients = [p.grad for p in state.model.parameters()]
    assert torch.nn.utils.get_total_norm(gradients).item() == pytest.approx(0.01, rel=1e-3)


def test_a_non_finite_loss_stops_before_it_reaches_the_weights(
    dataset_url: str, make_config: Make
) -> None:
    config = make_config(seen_pairs=16)
    state = loop.initial_state(config, "cpu")
    with torch.no_grad():
        state.model.visual.proj[0, 0] = float("nan")
    before = copy.deepcopy(state.model.state_dict())
    with pytest.raises(TrainingError, match="step 1: loss nan"):
        list(loop.train_steps(state, batches(dataset_url, config), config))
    after = state.model.state_dict()
    assert state.step == 0
    assert all(torch.equal(before[n], after[n]) for n in before if n != "visual.proj")
