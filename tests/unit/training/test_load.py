import json
from collections.abc import Callable
from pathlib import Path

import pytest

from clipcurate.errors import InvalidInputError
from clipcurate.training import checkpoint, evaluate
from clipcurate.training.config import TrainConfig
from clipcurate.training.load import load_encoder
from clipcurate.training.run import train

from .conftest import CLASSES, render


def features(model: str) -> list[float]:
    encoder = load_encoder(model)
    image = evaluate.decode_image(render(CLASSES[0]))
    assert image is not None
    return [*encoder.images([image])[0].tolist(), *encoder.texts([f"a {CLASSES[0]}"])[0].tolist()]


def test_a_training_is_evaluated_from_any_of_its_forms(
    tmp_path: Path,
    dataset_url: str,
    evaluation_url: str,
    make_config: Callable[..., TrainConfig],
    command_line: Callable[..., object],
) -> None:
    train(dataset_url, make_config(seen_pairs=32), str(tmp_path))
    expected = features(str(tmp_path))
    newest = checkpoint.newest(str(tmp_path / "checkpoints"))
    for form in (str(tmp_path / "export"), f"local-dir:{tmp_path / 'export'}", newest):
        assert features(form) == pytest.approx(expected, abs=1e-6)
    (tmp_path / "export" / "open_clip_config.json").unlink()
    assert features(str(tmp_path)) == pytest.approx(expected, abs=1e-6)
    output = tmp_path / "figures.json"
    done = command_line("evaluate", tmp_path, evaluation_url, dataset_url, "--output", output)
    assert done.returncode == 0, done.stderr
    assert "zero-shot" in done.stdout
    assert "image → text" in done.stdout
    results = json.loads(output.read_text())["results"]
    encoder = load_encoder(newest)
    assert results[evaluation_url]["accuracy"] == pytest.approx(
        evaluate.zero_shot(encoder, evaluation_url)["accuracy"]
    )
    assert results[dataset_url]["task"] == "retrieval"


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="neither a training's folder"):
        load_encoder(str(tmp_path))
