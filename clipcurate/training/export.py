"""A trained model as a folder that open_clip loads.

open_clip.create_model_and_transforms("local-dir:<folder>")
"""

import json

from torch import nn

from clipcurate import storage
from clipcurate.training.config import ModelConfig
from clipcurate.training.data import MEAN, STD
from clipcurate.training.model import architecture


def export(model: nn.Module, config: ModelConfig, folder: str) -> None:
    """Write `open_clip_model.safetensors` and `open_clip_config.json` into `folder` (a URL)."""
    from safetensors.torch import save

    weights = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    preprocess = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"}
    description = {"model_cfg": architecture(config), "preprocess_cfg": preprocess}
    storage.write_bytes(storage.join(folder, "open_clip_model.safetensors"), save(weights))
    storage.write_bytes(
        storage.join(folder, "open_clip_config.json"), json.dumps(description, indent=2).encode()
    )
