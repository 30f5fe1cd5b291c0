import pytest

from clipcurate.training.config import config_for
from clipcurate.training.model import create_model
from clipcurate.training.optim import decays, learning_rate


def test_learning_rate_warms_up_then_follows_a_cosine_to_zero() -> None:
    config = config_for("b32_400m")
    assert learning_rate(config, 0) == pytest.approx(5e-4 / 2000)
    assert learning_rate(config, 1999) == pytest.approx(5e-4)
    assert learning_rate(config, 2000) == pytest.approx(5e-4)
    assert learning_rate(config, 2000 + 388_625 // 2) == pytest.approx(2.5e-4, rel=1e-4)
    assert learning_rate(config, config.total_steps - 1) < 1e-10


def test_a_training_shorter_than_its_warmup_works() -> None:
    config = config_for("tiny", {"seen_pairs": "1280"})
    rates = [learning_rate(config, step) for step in range(config.total_steps)]
    assert rates == sorted(rates)


def test_weight_decay_spares_gains_biases_norms_and_the_scale() -> None:
    model = create_model(config_for("tiny").model, 0)
    spared = {name for name, p in model.named_parameters() if not decays(name, p)}
    assert {"logit_scale", "visual.class_embedding", "ln_final.weight"} <= spared
    assert "transformer.resblocks.0.mlp.c_fc.bias" in spared
    assert not spared & {"visual.proj", "token_embedding.weight", "positional_embedding"}
