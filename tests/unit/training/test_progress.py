import json
from pathlib import Path

import fsspec
import pytest

from clipcurate.errors import TrainingError
from clipcurate.training import progress
from clipcurate.training.progress import ProgressFile, Standing
from tests.waiting import wait_until


def test_nothing_is_known_of_an_empty_folder(tmp_path: Path) -> None:
    assert progress.standing(str(tmp_path)) is None
    assert progress.summary(str(tmp_path), "id") is None
    assert progress.failure(str(tmp_path)) == ""
    progress.forget_failure(str(tmp_path))


def test_figures_appear_while_training_goes_on_and_the_last_ones_stay(tmp_path: Path) -> None:
    url = str(tmp_path)
    with ProgressFile(url, seconds=0.01) as file:
        file.tell({"step": 1, "loss": 2.5, "of a later version": 1})
        wait_until(lambda: progress.standing(url), 30, "the first figures")
        assert progress.standing(url) == Standing(step=1, loss=2.5)
    with ProgressFile(url, seconds=1000) as file:
        for step in range(2, 9):
            file.tell({"step": step, "evaluation": {"r@1": 0.5}})
    assert progress.standing(url) == Standing(step=8, evaluation={"r@1": 0.5})


def test_any_storage_will_do() -> None:
    url = "memory://progress/of/a/training"
    with ProgressFile(url) as file:
        file.tell({"step": 3, "mfu": 0.4})
    assert progress.standing(url) == Standing(step=3, mfu=0.4)
    fsspec.filesystem("memory").rm("/progress", recursive=True)


def test_storage_that_refuses_stops_no_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("not a folder")
    with ProgressFile(str(tmp_path / "file" / "below")) as file:
        file.tell({"step": 1})
    assert "cannot tell progress" in caplog.text
    progress.tell_failure(str(tmp_path / "file" / "below"), TrainingError("x"))
    assert "cannot leave word of the failure" in caplog.text


def test_a_failure_is_told_and_forgotten(tmp_path: Path) -> None:
    progress.tell_failure(str(tmp_path), TrainingError("step 3: loss nan"))
    assert progress.failure(str(tmp_path)) == "step 3: loss nan"
    progress.forget_failure(str(tmp_path))
    assert progress.failure(str(tmp_path)) == ""


def test_an_error_that_is_not_ours_is_told_unless_another_rank_has_said_why(tmp_path: Path) -> None:
    url = str(tmp_path)
    progress.tell_failure(url, RuntimeError("connection closed by peer"))
    assert progress.failure(url) == "RuntimeError: connection closed by peer"
    progress.tell_failure(url, TrainingError("step 3: loss nan"))
    progress.tell_failure(url, RuntimeError("connection closed by peer"))
    assert progress.failure(url) == "step 3: loss nan"


def test_a_summary_counts_for_its_own_training_only(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps({"training_id": "id", "finished": True}))
    assert progress.summary(str(tmp_path), "id") == {"training_id": "id", "finished": True}
    assert progress.summary(str(tmp_path), "other") is None
