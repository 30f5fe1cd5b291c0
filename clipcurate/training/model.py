"""CLIP models and their tokenizers: open_clip's, from a configuration."""

import logging
import math
import os
import shutil
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from clipcurate.errors import InvalidInputError
from clipcurate.training.compat import open_clip
from clipcurate.training.config import ComputeConfig, ModelConfig
from clipcurate.training.text import encode_text
from clipcurate.training.tokenizer import ClipTokenizer

log = logging.getLogger(__name__)

Tokenize = Callable[[Sequence[str]], Tensor]

MAX_LOG_SCALE = math.log(100)

# What marks an open_clip model that the contrastive loss alone does not train as published, and
# the text towers whose weights Hugging Face hosts.
OTHER_LOSSES = ("multimodal_cfg", "init_logit_bias")

# One graph per static text length and per way of a step; torch's own limit is 8.
COMPILED_GRAPHS = 64

# Sized so that one CPU core trains about 700 pairs per second, its optimiser included.
TINY: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"layers": 3, "width": 128, "head_width": 32, "patch_size": 8},
    "text_cfg": {"vocab_size": 49_408, "width": 96, "heads": 3, "layers": 2},
}


def architecture(config: ModelConfig) -> dict[str, Any]:
    """Return open_clip's `model_cfg` for a configuration.

    Raises:
        InvalidInputError: open_clip has no model of this name that is trained by the contrastive
            loss alone and from scratch.
    """
    known = TINY if config.name == "tiny" else open_clip.get_model_config(config.name)
    if known is None or not _is_contrastive(known):
        raise InvalidInputError(
            f"setting model.name: {config.name!r} is none of open_clip's models that the "
            "contrastive loss trains from scratch (no SigLIP, CoCa or Hugging Face text tower); "
            "take one, e.g. ViT-B-32-quickgelu"
        )
    tree: dict[str, Any] = deepcopy(known)
    tree["quick_gelu"] = config.quick_gelu
    tree["vision_cfg"]["image_size"] = config.image_size
    tree["text_cfg"]["context_length"] = config.context_length
    return tree


def _is_contrastive(known: dict[str, Any]) -> bool:
    other = any(name in known for name in OTHER_LOSSES)
    return not other and "hf_model_name" not in known["text_cfg"]


def create_model(config: ModelConfig, seed: int, device: str = "cpu") -> nn.Module:
    """Return a freshly initialised model: the same weights for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(architecture(config))
    return model.to(device)


def build(tree: dict[str, Any]) -> nn.Module:
    """Return the model of an open_clip `model_cfg`, on torch's current default device."""
    arguments = {name: value for name, value in tree.items() if name != "custom_text"}
    kind = open_clip.CustomTextCLIP if tree.get("custom_text") else open_clip.CLIP
    model: nn.Module = kind(**arguments)
    return model


def create_tokenizer(config: ModelConfig) -> Tokenize:
    """Return a function from n texts to token ids, int64 of shape (n, context_length).

    A text that is too long keeps its beginning and the end-of-text token.

    Raises:
        InvalidInputError: the tokenizer is one of Hugging Face's and cannot be loaded.
    """
    if "hf_tokenizer_name" not in architecture(config)["text_cfg"]:
        return ClipTokenizer(config.context_length)
    try:
        loaded: Tokenize = open_clip.get_tokenizer(
            config.name, context_length=config.context_length
        )
    except (ImportError, OSError) as error:
        raise InvalidInputError(
            f"setting model.name: the tokenizer of {config.name} cannot be loaded ({error}); "
            "pip install transformers, and let it reach its files or set HF_HOME to a copy"
        ) from error
    return loaded


def features(
    model: nn.Module, images: Tensor, tokens: Tensor, precision: str = "auto"
) -> tuple[Tensor, Tensor]:
    """Return image and text features, each row of norm 1, float32 (float64 from such weights).

    Autocast covers the towers; normalising is outside it. `precision` as in `ComputeConfig`.
    """
    with autocast(images.device.type, precision):
        image, text = model.encode_image(images), encode_text(model, tokens)  # type: ignore[operator]
    return normalised(image), normalised(text)


def autocast(device_type: str, precision: str) -> torch.autocast:
    """Return the context that towers run in: bfloat16 if asked for, or on a GPU by default."""
    enabled = precision == "bf16" or (precision == "auto" and device_type == "cuda")
    return torch.autocast(device_type, dtype=torch.bfloat16, enabled=enabled)


def normalised(rows: Tensor) -> Tensor:
    """Return rows of norm 1, in float32 at least."""
    wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
    return nn.functional.normalize(wide, dim=-1)


class Towers(nn.Module):
    """A model's forward as a step needs it: one call, so that DistributedDataParallel sees one."""

    def __init__(self, model: nn.Module, config: ComputeConfig) -> None:
        super().__init__()
        self.model = model
        self._precision = config.precision
        self._compiled = compiles(config.compile, next(model.parameters()).device.type)
        if config.activation_checkpointing:
            model.set_grad_checkpointing(True)  # type: ignore[operator]
        self._encode_image = self._ready(model.encode_image)
        self._encode_text = self._ready(lambda tokens: encode_text(model, tokens))

    def forward(self, images: Tensor, *texts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return image features, those of all groups of texts in turn, and the logit scale.

        Args:
            images: normalised, float32 of shape (n, 3, H, W).
            texts: tokens in groups, n in all.
        """
        with autocast(images.device.type, self._precision):
            image = self._encode_image(images)
            text = torch.cat([self._encode_text(group) for group in texts])
        scale = self.model.logit_scale.exp()  # type: ignore[operator]
        return normalised(image), normalised(text), scale

    def _ready(self, encode: Any) -> Callable[[Tensor], Tensor]:
        if not self._compiled:
            return encode  # type: ignore[no-any-return]
        import torch._dynamo.config

        torch._dynamo.config.recompile_limit = COMPILED_GRAPHS
        return torch.compile(encode, dynamic=False)


def compiles(wanted: str, device_type: str) -> bool:
    """Say whether the towers are compiled: "auto" does so on a GPU, if there is a C compiler.

    Triton builds its launcher with one, in the first step; images without a compiler have none.
    """
    if wanted != "auto" or device_type != "cuda":
        return wanted == "on"
    if os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang"):
        return True
    log.warning("no C compiler: the model is not compiled; compute.compile=on wants one")
    return False


def clamp_logit_scale(model: nn.Module) -> None:
    """Keep the logit scale within [1, 100], as the original CLIP does."""
    with torch.no_grad():
        model.logit_scale.clamp_(0, MAX_LOG_SCALE)  # type: ignore[operator]


def pick_device() -> str:
    """Return "cuda" where a GPU can be used, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"
