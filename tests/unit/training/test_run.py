import io
import json
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from clipcurate.datasets.images import ImageIndex
from clipcurate.datasets.manifest import publish
from clipcurate.errors import InvalidInputError, TrainingError
from clipcurate.training import checkpoint, evaluate
from clipcurate.training.compat import open_clip
from clipcurate.training.config import TrainConfig
from clipcurate.training.data import TrainingData
from clipcurate.training.mixing import Source
from clipcurate.training.model import create_tokenizer
from clipcurate.training.run import Progress, train
from clipcurate.training.visits import Mix

from .conftest import CLASSES, add, make_manifest, render, write_dataset, write_evaluation

Make = Callable[..., TrainConfig]


def metrics(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if k != "pairs_per_second"} for line in lines
    ]


def weights(folder: Path) -> bytes:
    return (folder / "export" / "open_clip_model.safetensors").read_bytes()


def test_a_whole_training_leaves_its_files(
    tmp_path: Path, dataset_url: str, evaluation_url: str, make_config: Make
) -> None:
    seen: list[Progress] = []
    summary = train(
        dataset_url, make_config(), str(tmp_path), evaluation_url, on_progress=seen.append
    )
    assert [progress.step for progress in seen] == [1, 2, 3, 4, 5, 6]
    assert seen[-1].seen_pairs == 96
    assert summary["finished"]
    assert summary == json.loads((tmp_path / "summary.json").read_text())
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoints", "config.json", "evaluation.json", "evaluations.jsonl", "export",
        "metrics.jsonl", "summary.json",
    ]  # fmt: skip
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    assert len(evaluation["zero_shot"]["per_class"]) == 8
    assert set(summary["evaluation"]["zero_shot"]["groups"]) == {"head", "tail"}
    assert summary["evaluation"]["train_retrieval"]["images"] == 48
    open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'export'}")


def test_stopped_and_resumed_equals_uninterrupted_bit_for_bit(
    tmp_path: Path, dataset_url: str, make_config: Make
) -> None:
    config = make_config(seen_pairs=160)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(dataset_url, config, str(whole))
    steps: list[int] = []
    for stop_at in (3, 4):
        stopped = train(
            dataset_url,
            config,
            str(parts),
            on_progress=lambda progress: steps.append(progress.step),
            should_stop=lambda stop_at=stop_at: steps[-1] == stop_at,
        )
        assert not stopped["finished"]
        assert stopped["step"] == stop_at
    assert steps == [1, 2, 3, 4]
    assert train(dataset_url, config, str(parts))["finished"]
    assert metrics(parts) == metrics(whole)
    assert weights(parts) == weights(whole)


def test_evaluating_between_steps_changes_nothing_and_leaves_a_history(
    tmp_path: Path, dataset_url: str, evaluation_url: str, make_config: Make
) -> None:
    without, often = tmp_path / "without", tmp_path / "often"
    train(dataset_url, make_config(), str(without))
    config = make_config(eval_every=2, retrieval_images=20)
    heard: list[dict[str, Any]] = []

    def hear(step: int, figures: dict[str, Any]) -> None:
        heard.append({"step": step, **figures})

    arguments = (dataset_url, config, str(often), evaluation_url)
    train(*arguments, on_evaluation=hear, should_stop=lambda: len(heard) == 1)
    told: list[Progress] = []
    summary = train(*arguments, on_progress=told.append, on_evaluation=hear)
    lines = (often / "evaluations.jsonl").read_text().splitlines()
    history = [json.loads(line) for line in lines]
    assert [line["step"] for line in history] == [2, 4, 6]
    assert history[-1] == {"step": 6, **summary["evaluation"]}
    assert history[0]["zero_shot"]["images"] == 16
    assert heard == history
    assert told[0].evaluation == {k: v for k, v in history[0].items() if k != "step"}
    assert told[-1].evaluation == {k: v for k, v in history[1].items() if k != "step"}
    assert metrics(often) == metrics(without)
    assert weights(often) == weights(without)


def history(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "evaluations.jsonl").read_text().splitlines()]


def test_a_mistyped_evaluation_set_is_refused_before_the_first_step(
    tmp_path: Path, dataset_url: str, make_config: Make
) -> None:
    output = tmp_path / "out"
    with pytest.raises(InvalidInputError, match="absent: nothing to evaluate on"):
        train(dataset_url, make_config(), str(output), str(tmp_path / "absent"))
    assert not output.exists()


def test_an_evaluation_that_fails_is_told_and_ends_no_training(
    tmp_path: Path, dataset_url: str, make_config: Make, caplog: pytest.LogCaptureFixture
) -> None:
    broken = write_evaluation(tmp_path / "broken")
    with tarfile.open(tmp_path / "broken" / "0.tar", "a") as tar:
        add(tar, "torn.png", b"no image")
        add(tar, "torn.cls", b"0")
    summary = train(dataset_url, make_config(eval_every=4), str(tmp_path / "out"), broken)
    assert summary["finished"]
    assert summary == json.loads((tmp_path / "out" / "summary.json").read_text())
    assert weights(tmp_path / "out")
    for line in (summary["evaluation"], *history(tmp_path / "out")):
        assert "'torn' has no image that can be decoded" in line["error"]
        assert line["train_retrieval"]["images"] == 48
        assert "zero_shot" not in line
    assert [line["step"] for line in history(tmp_path / "out")] == [4, 6]
    assert "after step 4 failed, which ends no training" in caplog.text


def test_a_set_that_is_gone_when_training_goes_on_is_told_like_one_that_fails(
    tmp_path: Path, dataset_url: str, make_config: Make
) -> None:
    moved = write_evaluation(tmp_path / "set")
    arguments = (dataset_url, make_config(), str(tmp_path / "out"), moved)
    assert not train(*arguments, should_stop=lambda: True)["finished"]
    (tmp_path / "set").rename(tmp_path / "elsewhere")
    summary = train(*arguments)
    assert summary["finished"]
    assert "set: nothing to evaluate on" in summary["evaluation"]["error"]


def test_a_set_with_captions_is_retrieved_in(
    tmp_path: Path, dataset_url: str, make_config: Make
) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for number, name in enumerate(CLASSES):
            add(tar, f"{number}.png", render(name))
            add(tar, f"{number}.txt", name.encode())
    summary = train(dataset_url, make_config(), str(tmp_path / "out"), str(tmp_path))
    figures = summary["evaluation"]
    assert (figures["train_retrieval"]["images"], figures["retrieval"]["images"]) == (48, 8)


@pytest.mark.parametrize("stop_at", [2, 6], ids=["between steps", "at the end"])
def test_asked_to_stop_an_evaluation_is_given_up_and_taken_when_training_goes_on(
    tmp_path: Path, dataset_url: str, make_config: Make, monkeypatch: pytest.MonkeyPatch,
    stop_at: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(evaluate, "BATCH", 8)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    config = make_config(eval_every=2, checkpoint_every=100)
    train(dataset_url, config, str(whole))
    steps, asked = [0], []

    def third_batch() -> bool:
        asked.append(steps[-1])
        return asked.count(stop_at) >= 3

    arguments = (dataset_url, config, str(parts))
    stopped = train(*arguments, on_progress=lambda p: steps.append(p.step), should_stop=third_batch)
    assert (stopped["finished"], stopped["step"], steps[-1]) == (False, stop_at, stop_at)
    assert checkpoint.step_of(checkpoint.newest(str(parts / "checkpoints"))) == stop_at
    assert [line["step"] for line in history(parts)] == list(range(2, stop_at, 2))
    assert not (parts / "summary.json").exists()
    assert (parts / "export").exists() == (stop_at == 6)
    assert train(*arguments)["finished"]
    assert history(parts) == history(whole)
    assert metrics(parts) == metrics(whole)
    assert weights(parts) == weights(whole)


def test_before_an_evaluation_a_checkpoint_is_saved(
    tmp_path: Path, dataset_url: str, make_config: Make
) -> None:
    config = make_config(eval_every=3, checkpoint_every=100)

    def crash(*_: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(dataset_url, config, str(tmp_path), on_evaluation=crash)
    steps: list[int] = []
    train(dataset_url, config, str(tmp_path), on_progress=lambda p: steps.append(p.step))
    assert steps == [4, 5, 6]
    assert [line["step"] for line in history(tmp_path)] == [3, 6]


def test_a_crash_loses_only_the_steps_since_the_last_checkpoint(
    tmp_path: Path, dataset_url: str, make_config: Make
) -> None:
    config = make_config(checkpoint_every=4)
    whole, crashed = tmp_path / "whole", tmp_path / "crashed"
    train(dataset_url, config, str(whole))

    def crash(progress: Progress) -> None:
        if progress.step == 5:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(dataset_url, config, str(crashed), on_progress=crash)
    steps: list[int] = []
    train(dataset_url, config, str(crashed), on_progress=lambda p: steps.append(p.step))
    assert steps == [5, 6]
    assert metrics(crashed) == metrics(whole)
    assert weights(crashed) == weights(whole)


def test_a_finished_training_is_not_repeated(
    tmp_path: Path, dataset_url: str, make_config: Make
) -> None:
    summary = train(dataset_url, make_config(seen_pairs=32), str(tmp_path))
    steps: list[Progress] = []
    again = train(dataset_url, make_config(seen_pairs=32), str(tmp_path), on_progress=steps.append)
    assert again == summary
    assert not steps


def test_another_training_is_refused_a_used_folder(
    tmp_path: Path, dataset_url: str, make_config: Make
) -> None:
    train(dataset_url, make_config(), str(tmp_path), should_stop=lambda: True)
    with pytest.raises(TrainingError, match="other settings"):
        train(dataset_url, make_config(seed=1), str(tmp_path))
    train(dataset_url, make_config(cache_bytes=1 << 24), str(tmp_path))
    with pytest.raises(TrainingError, match="folder of its own"):
        train(dataset_url, make_config(seed=1), str(tmp_path))


def test_divergence_leaves_a_sound_checkpoint(
    tmp_path: Path, dataset_url: str, make_config: Make
) -> None:
    config = make_config(lr="1e15", warmup_steps=0, checkpoint_every=1)
    with pytest.raises(TrainingError, match="lower lr"):
        train(dataset_url, config, str(tmp_path))
    newest = checkpoint.saved(str(tmp_path / "checkpoints"))[-1]
    assert torch.load(newest, weights_only=True)["step"] == len(metrics(tmp_path))


def test_a_dataset_without_images_is_refused(tmp_path: Path, make_config: Make) -> None:
    publish(str(tmp_path), make_manifest("texts", 0))
    with pytest.raises(InvalidInputError, match="img2dataset"):
        train(str(tmp_path), make_config(), str(tmp_path / "out"))


@pytest.fixture(scope="module")
def red_and_blue(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Datasets of 30 red and of 10 blue images."""
    folder = tmp_path_factory.mktemp("two")
    images = {"red": [(255, n, 0) for n in range(30)], "blue": [(0, n, 255) for n in range(10)]}
    return [
        write_dataset(folder / name, [(plain(colour), [f"{name} {colour[1]}"]) for colour in them])
        for name, them in images.items()
    ]


def plain(colour: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9), colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_several_datasets_are_shown_by_weight_and_gone_on_with_bit_for_bit(
    tmp_path: Path, red_and_blue: list[str], make_config: Make
) -> None:
    config = make_config(batch_size=32, seen_pairs=192, checkpoint_every=4)
    mix = Mix(tuple(map(ImageIndex.open, red_and_blue)), (3, 1))
    steps = list(TrainingData(mix, config, create_tokenizer(config.model)).batches(0, 6))
    for step in steps:
        reds = Counter(bool(image[0, 0, 0] > image[0, 0, 2]) for image in step.images)
        assert reds == {True: 24, False: 8}
    red, blue = red_and_blue
    datasets = (Source(red, 3), Source(blue, 1))
    whole, crashed = tmp_path / "whole", tmp_path / "crashed"
    summary = train(datasets, config, str(whole))
    assert [line["digest"] for line in metrics(whole)] == [f"{one.digest:016x}" for one in steps]
    several = [{"url": red, "weight": 3}, {"url": blue, "weight": 1}]
    assert (summary["dataset_url"], summary["datasets"], summary["images"]) == (red, several, 40)
    assert json.loads((whole / "config.json").read_text())["datasets"] == several
    (retrieval,) = summary["evaluation"].values()
    assert retrieval["images"] == 30

    def crash(progress: Progress) -> None:
        if progress.step == 5:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(datasets, config, str(crashed), on_progress=crash)
    train(datasets, config, str(crashed))
    assert metrics(crashed) == metrics(whole)
    assert weights(crashed) == weights(whole)


def test_other_datasets_or_weights_are_refused_a_used_folder(
    tmp_path: Path, red_and_blue: list[str], make_config: Make
) -> None:
    red, blue = red_and_blue
    train((Source(red, 3), Source(blue, 1)), make_config(), str(tmp_path), should_stop=lambda: True)
    for other in (red, (Source(red), Source(blue)), (Source(red, 3), Source(red, 1))):
        with pytest.raises(TrainingError, match="other settings"):
            train(other, make_config(), str(tmp_path))
    assert train((Source(red, 6), Source(blue, 2)), make_config(), str(tmp_path))["finished"]


def test_a_dataset_alone_is_the_same_training_with_any_weight(
    tmp_path: Path, dataset_url: str, make_config: Make
) -> None:
    summary = train(dataset_url, make_config(seen_pairs=32), str(tmp_path))
    assert "datasets" not in summary
    assert train((Source(dataset_url, 5),), make_config(seen_pairs=32), str(tmp_path)) == summary
