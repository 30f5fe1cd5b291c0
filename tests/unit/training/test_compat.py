import subprocess
import sys

import torch

from clipcurate.training import compat


def test_open_clip_loads_beside_any_torch() -> None:
    assert compat.open_clip.get_model_config("ViT-B-32")["embed_dim"] == 512
    assert torch.ops.torchvision.nms is not None


def test_the_first_import_settles_torchvision_without_warnings() -> None:
    program = "import clipcurate.training.compat, torchvision"
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)
