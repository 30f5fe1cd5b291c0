import errno
from pathlib import Path
from typing import Any

import fsspec
import pytest

pytest.importorskip("tensorboard", reason="needs the tensorboard extra")
pytest.importorskip("torch", reason="training needs the train extra")

from fsspec.implementations.memory import MemoryFileSystem
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from clipcurate.training.events import Events, numbers


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return what TensorBoard shows of a folder."""
    shown = EventAccumulator(str(folder))
    shown.Reload()
    return {
        tag: [(event.step, pytest.approx(event.value)) for event in shown.Scalars(tag)]
        for tag in shown.Tags()["scalars"]
    }


def figures(step: int) -> dict[str, Any]:
    return {"step": step, "total_steps": 9, "loss": 3.0 / step, "lr": 1e-3, "mfu": 0.25}


def test_tensorboard_shows_every_step_and_the_evaluation(tmp_path: Path) -> None:
    events = Events(str(tmp_path))
    for step in (1, 2, 3):
        events.add_step(figures(step))
    events.add_evaluation(3, {"zero_shot": {"accuracy": 0.5, "per_class": [1]}, "name": "x"})
    events.close()
    assert curves(tmp_path / "tensorboard") == {
        "train/loss": [(1, 3.0), (2, 1.5), (3, 1.0)],
        "train/lr": [(1, 1e-3), (2, 1e-3), (3, 1e-3)],
        "speed/mfu": [(1, 0.25), (2, 0.25), (3, 0.25)],
        "evaluation/zero_shot/accuracy": [(3, 0.5)],
    }


def test_resuming_makes_what_was_told_of_later_steps_void(tmp_path: Path) -> None:
    """Killed at step 5 after the checkpoint of step 2: steps 3 to 5 come again."""
    killed = Events(str(tmp_path))
    for step in range(1, 6):
        killed.add_step({"step": step, "loss": -1.0 if step > 2 else 3.0 / step})
    killed.close()
    resumed = Events(str(tmp_path))
    for step in range(3, 7):
        resumed.add_step(figures(step))
    resumed.close()
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2
    assert curves(tmp_path / "tensorboard")["train/loss"] == [(s, 3.0 / s) for s in range(1, 7)]


def test_storage_that_cannot_append_gets_copies(tmp_path: Path) -> None:
    url = "memory://events/of/a/training"
    events = Events(url, upload_seconds=0)
    events.add_step(figures(1))
    fs = fsspec.filesystem("memory")
    (early,) = fs.ls("/events/of/a/training/tensorboard", detail=False)
    before = fs.size(early)
    events.add_step(figures(2))
    events.close()
    (late,) = fs.ls("/events/of/a/training/tensorboard", detail=False)
    assert late == early
    assert fs.size(late) > before
    fs.get(late, str(tmp_path / Path(late).name))
    assert curves(tmp_path)["train/loss"] == [(1, 3.0), (2, 1.5)]
    fs.rm("/events", recursive=True)


class FullFileSystem(MemoryFileSystem):  # type: ignore[misc]
    """Storage that takes nothing."""

    protocol = "full"

    def put_file(self, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")


def test_storage_that_refuses_copies_stops_no_training(caplog: pytest.LogCaptureFixture) -> None:
    fsspec.register_implementation("full", FullFileSystem, clobber=True)
    events = Events("full://events", upload_seconds=0)
    events.add_step(figures(1))
    events.close()
    assert "cannot copy events: full://events/tensorboard" in caplog.text


def test_who_tells_nothing_leaves_nothing(tmp_path: Path) -> None:
    Events(str(tmp_path)).close()
    assert not list(tmp_path.iterdir())


def test_numbers_of_nested_figures() -> None:
    tree = {"a": {"b": 1, "c": {"d": 0.5}}, "e": True, "f": "text", "g": [1], "h": 2}
    assert list(numbers(tree)) == [("a/b", 1.0), ("a/c/d", 0.5), ("h", 2.0)]
