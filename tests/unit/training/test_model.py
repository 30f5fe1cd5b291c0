from pathlib import Path

import pytest
import torch

from clipcurate.errors import InvalidInputError
from clipcurate.training.compat import open_clip
from clipcurate.training.config import ComputeConfig, ModelConfig, config_for, presets
from clipcurate.training.model import (
    Towers,
    architecture,
    clamp_logit_scale,
    compiles,
    create_model,
    create_tokenizer,
    features,
)


@pytest.mark.parametrize("preset", sorted(set(presets()) - {"tiny"}))
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


@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP", "coca_ViT-B-32", "roberta-ViT-B-32"])
def test_models_of_other_losses_or_towers_are_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match="contrastive loss"):
        architecture(ModelConfig(name))


def test_towers_in_bfloat16_normalise_in_float32() -> None:
    config = config_for("tiny").model
    towers = Towers(create_model(config, 0), ComputeConfig(precision="bf16"))
    images, tokens = torch.randn(3, 3, 32, 32), create_tokenizer(config)(["a", "b c", "d " * 40])
    image, text, scale = towers(images, tokens)
    assert (image.dtype, text.dtype, scale.dtype) == (torch.float32,) * 3
    assert torch.allclose(text.norm(dim=1), torch.ones(3), atol=1e-6)
    full = Towers(towers.model, ComputeConfig(precision="float32"))(images, tokens)
    assert not torch.equal(image, full[0])
    assert torch.allclose(image, full[0], atol=0.02)


def test_auto_compiles_on_a_gpu_where_there_is_a_compiler(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not compiles("auto", "cuda")
    (tmp_path / "gcc").touch(0o755)
    assert compiles("auto", "cuda")
    assert not compiles("auto", "cpu")
    assert not compiles("off", "cuda")


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # torch's own
def test_compiled_towers_give_the_same_features() -> None:
    config = config_for("tiny").model
    model = create_model(config, 0)
    images, tokens = torch.randn(3, 3, 32, 32), create_tokenizer(config)(["a", "b c", "d " * 40])
    compiled, plain = (Towers(model, ComputeConfig(compile=way)) for way in ("on", "off"))
    for ours, theirs in zip(compiled(images, tokens), plain(images, tokens), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


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
