"""Training CLIP from scratch on an emitted dataset, with the original CLIP's fixed recipe.

`config` needs no torch, so that a command line can check a request at once; everything else does:
import `clipcurate.training.run` only where training really starts.
"""

from clipcurate.training.config import TrainConfig, config_for, presets

__all__ = ["TrainConfig", "config_for", "presets"]
