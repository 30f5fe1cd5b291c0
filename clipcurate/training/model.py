"""CLIP models and their tokenizer: open_clip's, from a configuration."""

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from clipcurate.errors import InvalidInputError
from clipcurate.training.compat import open_clip
from clipcurate.training.config import ModelConfig

Tokenize = Callable[[Sequence[str]], Tensor]

MAX_LOG_SCALE = math.log(100)

# Few distinct lengths, so that kernels tuned per shape are reused.
TRIM_STEP = 4

# Text towers that `encode_text` covers: open_clip's default, causal and pooled at the end of text.
CAUSAL = {"no_causal_mask": False, "pool_type": "argmax", "embed_cls": False, "proj_bias": False}

# Sized so that one CPU core trains about 700 pairs per second, its optimiser included.
TINY: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"layers": 3, "width": 128, "head_width": 32, "patch_size": 8},
    "text_cfg": {"vocab_size": 49_408, "width": 96, "heads": 3, "layers": 2},
}


def architecture(config: ModelConfig) -> dict[str, Any]:
    """Return open_clip's `model_cfg` for a configuration.

    Raises:
        InvalidInputError: open_clip has no model of this name.
    """
    known = TINY if config.name == "tiny" else open_clip.get_model_config(config.name)
    if known is None or not _is_causal_clip(known):
        raise InvalidInputError(
            f"setting model.name: {config.name!r} is none of open_clip's CLIP models with the "
            "original text tower, e.g. ViT-B-32-quickgelu"
        )
    tree: dict[str, Any] = deepcopy(known)
    tree["quick_gelu"] = config.quick_gelu
    tree["vision_cfg"]["image_size"] = config.image_size
    tree["text_cfg"]["context_length"] = config.context_length
    return tree


def _is_causal_clip(known: dict[str, Any]) -> bool:
    text = known["text_cfg"]
    usual = all(text.get(name, value) == value for name, value in CAUSAL.items())
    return usual and "custom_text" not in known and "hf_model_name" not in text


def create_model(config: ModelConfig, seed: int, device: str = "cpu") -> nn.Module:
    """Return a freshly initialised model: the same weights for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = open_clip.CLIP(**architecture(config))
    return model.to(device)


def create_tokenizer(config: ModelConfig) -> Tokenize:
    """Return a function from n texts to token ids, int64 of shape (n, context_length).

    A text that is too long keeps its beginning and the end-of-text token.
    """
    tokenizer: Tokenize = open_clip.SimpleTokenizer(context_length=config.context_length)
    return tokenizer


def features(model: nn.Module, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Return image and text features in float32, each row of norm 1.

    Autocast (bfloat16) covers the towers on a GPU only; normalising is always float32.
    """
    with torch.autocast("cuda", dtype=torch.bfloat16, enabled=images.is_cuda):
        image, text = model.encode_image(images), encode_text(model, tokens)  # type: ignore[operator]
    normalize = nn.functional.normalize
    return normalize(image.float(), dim=-1), normalize(text.float(), dim=-1)


def trimmed(tokens: Tensor) -> Tensor:
    """Cut the columns behind every row's end of text, to a multiple of TRIM_STEP."""
    used = int(tokens.argmax(dim=1).max()) + 1
    return tokens[:, : -(-used // TRIM_STEP) * TRIM_STEP]


def encode_text(model: Any, tokens: Tensor) -> Tensor:
    """Return open_clip's text features, also for trimmed tokens.

    Exact because the tower is causal and pools at the end-of-text token: padding comes after it.
    """
    length = tokens.shape[1]
    embedded = model.token_embedding(tokens) + model.positional_embedding[:length]
    hidden = model.transformer(embedded, attn_mask=model.attn_mask[:length, :length])
    rows = torch.arange(len(tokens), device=tokens.device)
    end_of_text = model.ln_final(hidden)[rows, tokens.argmax(dim=1)]
    projected: Tensor = end_of_text @ model.text_projection
    return projected


def clamp_logit_scale(model: nn.Module) -> None:
    """Keep the logit scale within [1, 100], as the original CLIP does."""
    with torch.no_grad():
        model.logit_scale.clamp_(0, MAX_LOG_SCALE)  # type: ignore[operator]


def pick_device() -> str:
    """Return "cuda" where a GPU can be used, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"
