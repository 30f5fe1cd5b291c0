"""Trainings as processes: killed, stopped, and gone on with by another number of ranks."""

import json
from pathlib import Path

import psutil
import pytest

pytest.importorskip("torch", reason="training needs the train extra")

from clipcurate.training import checkpoint
from clipcurate.training.launch import LocalLauncher, LocalTraining, TrainJob
from tests.integration.test_trainer_service import write_dataset
from tests.waiting import wait_until

PATIENCE = 120.0
STEPS = 60


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_dataset(tmp_path_factory.mktemp("launch") / "dataset", 32)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def job(dataset: str, output: Path, **overrides: object) -> TrainJob:
    small = {"batch_size": 8, "seen_pairs": 8 * STEPS, "checkpoint_every": 2, "log_every": 1}
    texts = {name: str(value) for name, value in (small | overrides).items()}
    return TrainJob(dataset, "tiny", str(output), texts)


def reached(output: Path) -> int:
    url = checkpoint.newest(str(output / "checkpoints"))
    return checkpoint.step_of(url) if url else 0


def kill_all(training: LocalTraining) -> None:
    """Kill every process of a training at once, as a machine that loses power does."""
    root = psutil.Process(training.process.pid)
    doomed = [root, *root.children(recursive=True)]
    for process in doomed:
        process.suspend()
    for process in doomed:
        process.kill()
    training.process.wait()
    psutil.wait_procs(doomed, PATIENCE)


def losses(output: Path) -> dict[int, float]:
    lines = (output / "metrics.jsonl").read_text().splitlines()
    return {record["step"]: record["loss"] for record in map(json.loads, lines)}


def test_killed_and_gone_on_with_by_one_two_and_one_ranks(dataset: str, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    LocalLauncher().start(job(dataset, whole)).wait()
    for ranks, step in ((1, 10), (2, 24)):
        training = LocalLauncher(ranks).start(job(dataset, parts))
        wait_until(lambda step=step: reached(parts) >= step, PATIENCE, f"step {step}")
        kill_all(training)
    assert 24 <= reached(parts) < STEPS
    LocalLauncher().start(job(dataset, parts)).wait()
    # The same sets of pairs make the same losses, but for the order in which floats are added.
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-3)
    assert list(losses(parts)) == list(range(1, STEPS + 1))
    assert json.loads((parts / "summary.json").read_text())["finished"]
