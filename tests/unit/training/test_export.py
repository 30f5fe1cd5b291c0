import json
from pathlib import Path

import torch

from clipcurate.training.compat import open_clip
from clipcurate.training.config import config_for
from clipcurate.training.data import MEAN, STD
from clipcurate.training.export import export
from clipcurate.training.model import create_model, create_tokenizer


def test_open_clip_loads_the_folder_and_gives_the_same_features(tmp_path: Path) -> None:
    config = config_for("tiny").model
    model = create_model(config, 3)
    export(model, config, str(tmp_path))
    name = f"local-dir:{tmp_path}"
    loaded, _, preprocess = open_clip.create_model_and_transforms(name)
    tokenizer = open_clip.get_tokenizer(name)
    texts = ["a photo of a red disc", "x"]
    assert torch.equal(tokenizer(texts), create_tokenizer(config)(texts))
    images = torch.randn(2, 3, 32, 32)
    model.eval()
    loaded.eval()
    expected, found = (m(images, tokenizer(texts)) for m in (model, loaded))
    for ours, theirs in zip(expected, found, strict=True):
        assert torch.equal(ours, theirs)
    assert preprocess.transforms[0].size == 32
    assert (tuple(preprocess.transforms[-1].mean), tuple(preprocess.transforms[-1].std)) == (
        MEAN,
        STD,
    )


def test_config_says_quick_gelu(tmp_path: Path) -> None:
    config = config_for("tiny").model
    export(create_model(config, 0), config, str(tmp_path))
    description = json.loads((tmp_path / "open_clip_config.json").read_text())
    assert description["model_cfg"]["quick_gelu"] is True
