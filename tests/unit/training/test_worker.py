"""How an attempt to train ends: its status, and the word that it leaves."""

from pathlib import Path

import pytest
import torch

from clipcurate.errors import ClipcurateError, StorageError, TrainingError
from clipcurate.training import progress, worker
from clipcurate.training.launch import TrainJob
from clipcurate.training.launch.contract import HOPELESS


@pytest.fixture
def job(tmp_path: Path) -> TrainJob:
    return TrainJob("data", "tiny", str(tmp_path))


def fails(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Have the next attempt fail."""

    def train(_: TrainJob) -> int:
        raise error

    monkeypatch.setattr(worker, "_train", train)


@pytest.mark.parametrize(
    ("error", "status"), [(TrainingError("loss nan"), HOPELESS), (StorageError("full"), 1)]
)
def test_an_error_of_ours_is_told(
    job: TrainJob, monkeypatch: pytest.MonkeyPatch, error: ClipcurateError, status: int
) -> None:
    fails(monkeypatch, error)
    assert worker.main(job) == status
    assert progress.failure(job.output_url) == str(error)


def test_a_bug_is_told_and_raised(job: TrainJob, monkeypatch: pytest.MonkeyPatch) -> None:
    fails(monkeypatch, ZeroDivisionError("division by zero"))
    with pytest.raises(ZeroDivisionError):
        worker.main(job)
    assert progress.failure(job.output_url) == "ZeroDivisionError: division by zero"


def test_a_device_without_memory_names_the_remedies(
    job: TrainJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails(monkeypatch, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"))
    assert worker.main(job) == HOPELESS
    word = progress.failure(job.output_url)
    assert "Tried to allocate 9 GiB; train again with a smaller micro_batch" in word
    assert "activation_checkpointing" in word
