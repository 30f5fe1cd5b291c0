import pytest
import torch

from clipcurate.errors import InvalidInputError
from clipcurate.training.compat import open_clip
from clipcurate.training.config import ModelConfig, config_for
from clipcurate.training.model import (
    architecture,
    clamp_logit_scale,
    create_model,
    create_tokenizer,
    encode_text,
    features,
    trimmed,
)


@pytest.mark.parametrize("preset", ["b32_400m", "b16_400m", "l14_400m", "h14_fullcc"])
def test_published_presets_are_open_clips_architectures(preset: str) -> None:
    config = config_for(preset).model
    assert architecture(config) == open_clip.get_model_config(config.name)


def test_unknown_model_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="ViT-Z"):
        architecture(ModelConfig("ViT-Z"))


def test_model_is_a_function_of_its_seed_and_leaves_the_generator_alone() -> None:
    config = config_for("tiny").model
    before = torch.get_rng_state()
    first, again, other = (create_model(config, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["visual.proj"], other["visual.proj"])


def test_features_have_norm_one_and_equal_open_clips() -> None:
    config = config_for("tiny").model
    model = create_model(config, 0)
    images, tokens = torch.randn(3, 3, 32, 32), create_tokenizer(config)(["a", "b c", "d " * 40])
    image, text = features(model, images, tokens)
    assert torch.allclose(image.norm(dim=1), torch.ones(3))
    assert torch.equal(image, model(images, tokens)[0])
    assert torch.equal(text, model(images, tokens)[1])


def test_trimmed_texts_have_the_features_and_gradients_of_full_ones() -> None:
    config = config_for("tiny").model
    model = create_model(config, 0).double()
    tokens = create_tokenizer(config)(["a red disc", "!~ a blue square on the wall !~"])
    assert (tokens[1, :9] == 0).any()  # "!" is token 0, as padding is
    short = trimmed(tokens)
    assert short.shape == (2, 12)
    gradients = []
    for encoded in (encode_text(model, short), model.encode_text(tokens)):
        gradients.append([encoded, *torch.autograd.grad(encoded.square().sum(), towers(model))])
    for ours, theirs in zip(*gradients, strict=True):
        assert (ours - theirs).norm() <= 1e-10 * theirs.norm()


def towers(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [p for n, p in model.named_parameters() if "visual" not in n and n != "logit_scale"]


@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP", "ViT-H-14-worldwide", "roberta-ViT-B-32"])
def test_other_text_towers_are_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match="original text tower"):
        architecture(ModelConfig(name))


def test_long_text_keeps_its_end_of_text_token() -> None:
    tokens = create_tokenizer(config_for("tiny").model)(["word " * 100])
    assert tokens.shape == (1, 24)
    assert tokens[0, -1] == tokens.max() == 49_407


def test_logit_scale_stays_within_one_and_a_hundred() -> None:
    model = create_model(config_for("tiny").model, 0)
    for value, expected in ((9.0, 100.0), (-3.0, 1.0)):
        torch.nn.init.constant_(model.logit_scale, value)
        clamp_logit_scale(model)
        assert model.logit_scale.exp().item() == pytest.approx(expected)
