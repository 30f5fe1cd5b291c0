"""Trained models of any origin, ready to be evaluated."""

from pathlib import Path
from typing import Any

from clipcurate import storage
from clipcurate.errors import InvalidInputError
from clipcurate.training import checkpoint
from clipcurate.training.compat import open_clip
from clipcurate.training.config import ModelConfig
from clipcurate.training.evaluate import Encoder
from clipcurate.training.model import create_model, create_tokenizer, pick_device


def load_encoder(model: str) -> Encoder:
    """Return a model, on a GPU if there is one.

    Args:
        model: a training's folder (its export where it is local, else its newest checkpoint), a
            checkpoint `.pt` of ours, a local exported folder, or "NAME" or "NAME:PRETRAINED" as
            open_clip has them ("local-dir:…" too). open_clip may download weights that it knows
            by name.

    Raises:
        InvalidInputError: none of these.
        TrainingError: the checkpoint cannot be read.
    """
    if model.endswith(checkpoint.SUFFIX):
        return _from_checkpoint(model)
    for folder in (model, storage.join(model, "export")):
        if storage.is_local(folder) and storage.exists(
            storage.join(folder, "open_clip_config.json")
        ):
            return _from_open_clip(f"local-dir:{Path(folder).absolute()}", "")
    newest = checkpoint.newest(storage.join(model, "checkpoints"))
    if newest:
        return _from_checkpoint(newest)
    if model.startswith(("local-dir:", "hf-hub:")):
        return _from_open_clip(model, "")
    name, _, pretrained = model.partition(":")
    return _from_open_clip(name, pretrained)


def _from_checkpoint(url: str) -> Encoder:
    payload = checkpoint.load(url)
    config = ModelConfig(**payload["config"]["model"])
    model = create_model(config, 0, pick_device())
    model.load_state_dict(payload["model"])
    return Encoder(model, create_tokenizer(config), config.image_size)


def _from_open_clip(name: str, pretrained: str) -> Encoder:
    try:
        model, _, transform = open_clip.create_model_and_transforms(
            name, pretrained=pretrained or None, device=pick_device()
        )
        tokenize: Any = open_clip.get_tokenizer(name)
    except (RuntimeError, OSError, ValueError, ImportError) as error:
        raise InvalidInputError(
            f"{name}: neither a training's folder, a checkpoint, nor a model that open_clip can "
            f"load here ({error})"
        ) from error
    return Encoder(model, tokenize, model.visual.image_size, transform)
