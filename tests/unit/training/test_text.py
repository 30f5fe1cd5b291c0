"""Trimmed texts give the numbers of full ones, for every kind of text tower that open_clip has."""

import itertools
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clipcurate.training.compat import open_clip
from clipcurate.training.config import config_for
from clipcurate.training.model import build, create_tokenizer
from clipcurate.training.text import LENGTHS, Trimmer, encode_text, trimmer_of

CONTEXT, VOCABULARY, EOS = 40, 300, 2
SHAPE = ("no_causal_mask", "pool_type", "embed_cls", "proj_bias", "proj_type", "norm_kwargs")

SMALL_VISION = {"layers": 1, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 32}
SMALL_TEXT = {
    "layers": 2, "width": 32, "heads": 2, "context_length": CONTEXT, "vocab_size": VOCABULARY,
    "eos_id": EOS,
}  # fmt: skip


def families() -> dict[tuple[Any, ...], str]:
    """One configuration per way that open_clip's text towers differ, Hugging Face's left out."""
    found: dict[tuple[Any, ...], str] = {}
    for name in sorted(open_clip.list_models()):
        config = open_clip.get_model_config(name)
        text = config["text_cfg"]
        if "hf_model_name" not in text:
            kind = (config.get("custom_text", False), "multimodal_cfg" in config)
            found.setdefault((*kind, *(str(text.get(key)) for key in SHAPE)), name)
    return found


FAMILIES = sorted(families().values())
# What the published architectures say: causal, and pooled at the end of text.
EXACT = {"EVA01-g-14", "MobileCLIP-B", "RN101", "ViT-H-14-worldwide"}


def small(name: str) -> nn.Module:
    """Return open_clip's model of this name, with few and narrow layers, in float64."""
    tree = deepcopy(open_clip.get_model_config(name))
    tree |= {"embed_dim": 16, "vision_cfg": SMALL_VISION}
    tree["text_cfg"] |= SMALL_TEXT
    torch.manual_seed(0)
    if "multimodal_cfg" not in tree:
        return build(tree).double()
    tree["multimodal_cfg"] |= {"layers": 1, "width": 32, "heads": 2, "vocab_size": VOCABULARY}
    del tree["custom_text"]
    coca: nn.Module = open_clip.CoCa(**tree).double()
    return coca


def texts_of(lengths: list[int], pool_type: str) -> Tensor:
    """Return tokens whose end of text is at the given lengths, padding behind it."""
    tokens = torch.zeros(len(lengths), CONTEXT, dtype=torch.int64)
    generator = torch.Generator().manual_seed(1)
    for row, length in zip(tokens, lengths, strict=True):
        row[:length] = torch.randint(3, VOCABULARY - 2, (length,), generator=generator)
        row[length - 1] = EOS if pool_type == "eos" else VOCABULARY - 1
    return tokens


def text_parameters(model: nn.Module) -> list[nn.Parameter]:
    left_out = ("visual", "logit", "text_decoder")
    return [p for name, p in model.named_parameters() if not name.startswith(left_out)]


def test_the_families_are_those_that_are_known() -> None:
    assert set(FAMILIES) >= EXACT
    assert {name for name in FAMILIES if trimmer_of(small(name)).pool_type} == EXACT


@pytest.mark.parametrize("name", sorted(EXACT))
def test_trimmed_texts_have_the_features_and_gradients_of_full_ones(name: str) -> None:
    model = small(name)
    trimmer = trimmer_of(model)
    lengths = [3, 40, 5, 2, 9, 8, 21, 17, 4, 6, 3, 12] * 6
    tokens = texts_of(lengths, trimmer.pool_type or "")
    texts = trimmer.arrange(tokens, parts=2, groups=2)
    assert [group.shape[1] for group in texts.groups] == [4 + 4, 4 + 4, 12, 40]
    trimmed = texts.restored(torch.cat([encode_text(model, group) for group in texts.groups]))
    weights = torch.randn(trimmed.shape, dtype=torch.float64)
    full = model.encode_text(tokens)  # type: ignore[operator]
    results = [
        [rows, *torch.autograd.grad((rows * weights).sum(), text_parameters(model))]
        for rows in (trimmed, full)
    ]
    for ours, theirs in zip(*results, strict=True):
        assert (ours - theirs).norm() <= 1e-10 * theirs.norm()


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - EXACT))
def test_other_towers_get_their_texts_whole(name: str) -> None:
    model = small(name)
    tokens = texts_of([3, 5, 9, 40] * 8, "argmax")
    texts = trimmer_of(model).arrange(tokens, parts=2, groups=4)
    assert texts.inverse is None
    assert torch.equal(torch.cat(texts.groups), tokens)
    encoded = encode_text(model, tokens)
    assert torch.equal(encoded, model.encode_text(tokens))  # type: ignore[operator]


def test_a_tower_that_is_not_open_clips_is_not_trimmed() -> None:
    model = small("MobileCLIP-B")
    model.text = nn.Identity()
    assert trimmer_of(model) == Trimmer(None)


def test_arranging_loses_and_doubles_no_text() -> None:
    for count, parts, groups in itertools.product((1, 7, 64, 130), (1, 2, 3), (0, 1, 4)):
        tokens = texts_of([2 + i * 7 % 38 for i in range(count)], "argmax")
        if parts > count:
            continue
        texts = Trimmer("argmax").arrange(tokens, parts, groups)
        assert len(texts.groups) % parts == 0
        assert {group.shape[1] for group in texts.groups} <= {*LENGTHS, CONTEXT}
        padded = [nn.functional.pad(g, (0, CONTEXT - g.shape[1])) for g in texts.groups]
        assert torch.equal(texts.restored(torch.cat(padded)), tokens)


def test_captions_that_hold_the_padding_token_keep_their_end() -> None:
    tokens = create_tokenizer(config_for("tiny").model)(["!~ a blue square !~ ! !", "! " * 90])
    assert (tokens[0, 1:9] == 0).any()  # "!" is token 0, as padding is
    texts = Trimmer("argmax").arrange(tokens, 1, 1)
    assert all(group.max(dim=1).values.eq(49_407).all() for group in texts.groups)
