"""Trainings as processes: killed, stopped, and gone on with by another number of ranks."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("torch", reason="training needs the train extra")

from clipcurate.errors import TrainingError
from clipcurate.training import checkpoint, progress
from clipcurate.training.launch import LocalLauncher, LocalTraining, TrainJob, contract
from clipcurate.training.mixing import Source
from tests.integration.test_trainer_service import write_dataset
from tests.ports import free_port
from tests.unit.training.conftest import write_evaluation
from tests.unit.training.thinned import MATCHED, T, curate
from tests.waiting import wait_until

PATIENCE = 120.0
STEPS = 60
BATCH = 8
IMAGES = 37
"""Prime to the batch: no checkpoint before step 37 lies between two epochs."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """For every process of this module: another number of threads adds floats in another order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_dataset(tmp_path_factory.mktemp("launch") / "dataset", IMAGES)


@pytest.fixture(scope="module")
def matched(tmp_path_factory: pytest.TempPathFactory) -> str:
    return curate(tmp_path_factory.mktemp("matched")).emit(MATCHED)


@pytest.fixture(scope="module")
def undisturbed(dataset: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that nothing happens to."""
    output = tmp_path_factory.mktemp("undisturbed")
    LocalLauncher().start(job(dataset, output)).wait()
    return output


def job(dataset: str, output: Path, **overrides: object) -> TrainJob:
    small = {
        "batch_size": BATCH, "seen_pairs": BATCH * STEPS, "checkpoint_every": 2, "log_every": 1
    }  # fmt: skip
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


def rank(root: int, number: int) -> psutil.Process:
    """Return a rank below a process; there are moments without."""
    for process in psutil.Process(root).children():
        try:
            if process.environ().get("RANK") == str(number):
                return process
        except psutil.Error:
            continue
    raise ProcessLookupError


def wait_for_step(output: Path, step: int) -> None:
    wait_until(lambda: reached(output) >= step, PATIENCE, f"step {step}")


def logged(output: Path, name: str) -> dict[int, Any]:
    """Return a figure of each step."""
    lines = (output / "metrics.jsonl").read_text().splitlines()
    return {record["step"]: record[name] for record in map(json.loads, lines)}


def exported(output: Path) -> bytes:
    """Return the weights that a training ended with."""
    return (output / "export" / "open_clip_model.safetensors").read_bytes()


def assert_undisturbed(output: Path, undisturbed: Path) -> None:
    digests, losses = logged(output, "digest"), logged(output, "loss")
    assert digests == logged(undisturbed, "digest")
    assert len(set(digests.values())) == STEPS
    # The same sets of pairs make the same losses, but for the order in which floats are added.
    assert losses == pytest.approx(logged(undisturbed, "loss"), rel=1e-3)
    assert list(losses) == list(range(1, STEPS + 1))
    assert json.loads((output / "summary.json").read_text())["finished"]


def test_killed_and_gone_on_with_by_one_two_and_one_ranks(
    dataset: str, tmp_path: Path, undisturbed: Path
) -> None:
    for ranks, step, threads in ((1, 10, 1), (2, 24, 3)):
        workers = {"decode_threads": threads, "fetch_threads": 4 - threads}
        training = LocalLauncher(ranks).start(job(dataset, tmp_path, **workers))
        wait_for_step(tmp_path, step)
        kill_all(training)
        assert reached(tmp_path) < STEPS
        assert reached(tmp_path) * BATCH % IMAGES, "killed between two epochs"
    LocalLauncher().start(job(dataset, tmp_path, decode_threads=2, prefetch_batches=1)).wait()
    assert_undisturbed(tmp_path, undisturbed)


def test_one_rank_that_is_killed_and_gone_on_with_has_the_same_bits(
    dataset: str, tmp_path: Path, undisturbed: Path
) -> None:
    for step, threads in ((7, 1), (21, 3)):
        training = LocalLauncher().start(job(dataset, tmp_path, decode_threads=threads))
        wait_for_step(tmp_path, step)
        kill_all(training)
        assert reached(tmp_path) * BATCH % IMAGES, "killed between two epochs"
    assert reached(tmp_path) < STEPS
    LocalLauncher().start(job(dataset, tmp_path, decode_threads=2, fetch_threads=1)).wait()
    for name in ("digest", "loss", "grad_norm"):
        assert logged(tmp_path, name) == logged(undisturbed, name)
    assert exported(tmp_path) == exported(undisturbed)


def test_online_balancing_that_is_killed_shows_each_epochs_own_pairs_again(
    matched: str, tmp_path: Path
) -> None:
    online = {"online": True, "t_schedule": T, "lanes": 4, "window_blocks": 2}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    LocalLauncher().start(job(matched, whole, **online)).wait()
    for ranks, step in ((1, 10), (2, 24)):
        training = LocalLauncher(ranks).start(job(matched, parts, **online))
        wait_for_step(parts, step)
        kill_all(training)
        assert reached(parts) < STEPS
    LocalLauncher().start(job(matched, parts, decode_threads=3, **online)).wait()
    assert_undisturbed(parts, whole)
    assert json.loads((parts / "config.json").read_text())["data"]["online"]


def test_a_mixture_that_is_killed_shows_each_steps_pairs_again(
    dataset: str, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    other = write_dataset(tmp_path / "other", 11)
    mixture = replace(job(dataset, whole), dataset_url=(Source(dataset, 3), Source(other, 1)))
    LocalLauncher().start(mixture).wait()
    settings = [f"--set={name}={value}" for name, value in mixture.overrides.items()]
    names = [dataset, other, "--weights", "3,1", "--output", str(parts)]
    command = [sys.executable, "-m", "clipcurate.cli.app", "train", *names, *settings]
    for step in (7, 21):
        training = LocalTraining(subprocess.Popen(command))
        wait_for_step(parts, step)
        kill_all(training)
        assert reached(parts) < STEPS
    subprocess.run(command, check=True)
    for name in ("digest", "loss"):
        assert logged(parts, name) == logged(whole, name)
    assert exported(parts) == exported(whole)


def test_two_ranks_evaluate_between_steps_and_go_on_as_if_they_had_not(
    dataset: str, tmp_path: Path
) -> None:
    without, often = tmp_path / "without", tmp_path / "often"
    short = job(dataset, without, seen_pairs=12 * BATCH)
    LocalLauncher(2).start(short).wait()
    settings = short.overrides | {"eval_every": "4"}
    evaluation = write_evaluation(tmp_path / "set")
    what = replace(short, output_url=str(often), overrides=settings, eval_url=evaluation)
    LocalLauncher(2).start(what).wait()
    assert list(logged(often, "digest")) == list(range(1, 13))
    for name in ("digest", "loss", "grad_norm"):
        assert logged(often, name) == logged(without, name)
    assert exported(often) == exported(without)
    history = [json.loads(one) for one in (often / "evaluations.jsonl").read_text().splitlines()]
    assert [line["step"] for line in history] == [4, 8, 12]
    for line in history:
        assert (line["zero_shot"]["images"], line["train_retrieval"]["images"]) == (16, IMAGES)


def test_two_ranks_that_are_told_to_go_give_an_evaluation_up_and_take_it_later(
    dataset: str, tmp_path: Path
) -> None:
    output, long = tmp_path / "out", tmp_path / "long"
    evaluation = write_evaluation(long)
    for number in range(1, 400):
        (long / f"{number}.tar").hardlink_to(long / "0.tar")
    settings = {"seen_pairs": 12 * BATCH, "eval_every": 4, "checkpoint_every": 1000}
    what = replace(job(dataset, output, **settings), eval_url=evaluation)
    training = LocalLauncher(2).start(what)
    wait_for_step(output, 4)
    training.stop()
    assert training.wait(PATIENCE)
    assert reached(output) == 4
    assert (output / "evaluations.jsonl").read_text() == ""
    for number in range(1, 400):
        (long / f"{number}.tar").unlink()
    LocalLauncher(2).start(what).wait()
    history = [json.loads(one) for one in (output / "evaluations.jsonl").read_text().splitlines()]
    assert [line["step"] for line in history] == [4, 8, 12]
    assert list(logged(output, "digest")) == list(range(1, 13))


def test_a_rank_that_dies_starts_again_with_the_others(
    dataset: str, tmp_path: Path, undisturbed: Path
) -> None:
    training = LocalLauncher(2).start(job(dataset, tmp_path))
    for number, step in ((1, 10), (0, 24)):
        wait_for_step(tmp_path, step)
        rank(training.process.pid, number).kill()
        assert reached(tmp_path) < STEPS
    assert training.wait(PATIENCE)
    assert_undisturbed(tmp_path, undisturbed)


def test_a_rank_that_is_told_to_go_saves_with_the_others_and_all_go_on(
    dataset: str, tmp_path: Path, undisturbed: Path
) -> None:
    quiet = job(dataset, tmp_path, checkpoint_every=1000)
    training = LocalLauncher(2).start(quiet)
    wait_until(lambda: progress.standing(str(tmp_path)), PATIENCE, "a step")
    rank(training.process.pid, 1).terminate()
    wait_for_step(tmp_path, 1)
    assert reached(tmp_path) < STEPS
    assert training.wait(PATIENCE)
    assert_undisturbed(tmp_path, undisturbed)


def test_an_error_that_would_come_again_is_told_and_not_tried_again(
    dataset: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hopeless = job(dataset, tmp_path, lr="1e15", warmup_steps=0)
    training = LocalLauncher(2, restarts=2).start(hopeless)
    with pytest.raises(TrainingError, match=f"status {contract.HOPELESS}.*would come again"):
        training.wait(PATIENCE)
    assert capfd.readouterr().err.count(f"step 1/{STEPS} ") == 1
    assert "train again with a lower lr" in progress.failure(str(tmp_path))


def test_two_machines_start_again_when_rank_0_fails_after_the_last_step(
    dataset: str, tmp_path: Path, undisturbed: Path
) -> None:
    (tmp_path / "export").write_text("in the way of the folder")
    what, port = job(dataset, tmp_path), free_port()
    machines = [agent(what, index, port) for index in (1, 0)]
    try:
        failed = lambda: progress.failure(str(tmp_path))  # noqa: E731
        wait_until(failed, PATIENCE, "a failure")
        assert reached(tmp_path) == STEPS
        assert "export" in progress.failure(str(tmp_path))
        (tmp_path / "export").unlink()
        assert [machine.wait(PATIENCE) for machine in machines] == [0, 0]
    finally:
        for machine in machines:
            machine.kill()
    assert_undisturbed(tmp_path, undisturbed)
    assert not progress.failure(str(tmp_path))


def test_ranks_end_with_the_process_that_started_them(dataset: str, tmp_path: Path) -> None:
    code = (
        "import sys; from clipcurate.training.launch import LocalLauncher, TrainJob; "
        "training = LocalLauncher(2).start(TrainJob.from_json(sys.argv[1])); "
        "print(training.process.pid, flush=True); training.wait()"
    )
    text = job(dataset, tmp_path, seen_pairs=80_000).to_json()
    command = [sys.executable, "-c", code, text]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout
        agent = psutil.Process(int(starter.stdout.readline()))
        wait_for_step(tmp_path, 2)
        family = [agent, *agent.children(recursive=True)]
        starter.kill()
    _, alive = psutil.wait_procs(family, PATIENCE)
    assert not alive


def agent(job: TrainJob, index: int, port: int) -> subprocess.Popen[bytes]:
    """Start a machine's share of a training of two machines, as a pod does."""
    environment = {
        contract.MEETING_PLACE: f"127.0.0.1:{port}",
        contract.NAME: "name",
        contract.INDEX: str(index),
        contract.ADDRESS: "127.0.0.1",
        contract.SAVE_SECONDS: "60",
    }
    ranks = ["--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "3"]
    command = [sys.executable, "-m", contract.AGENT, *ranks, "-m", contract.WORKER, job.to_json()]
    return subprocess.Popen(command, env=os.environ | environment)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["lost", "evicted"])
def test_a_machine_is_replaced_by_another(
    dataset: str, tmp_path: Path, undisturbed: Path, how: signal.Signals
) -> None:
    what, port = job(dataset, tmp_path), free_port()
    machines = [agent(what, index, port) for index in (1, 0)]
    try:
        wait_for_step(tmp_path, 10)
        lost = machines[0]
        ranks = psutil.Process(lost.pid).children(recursive=True)
        for process in [psutil.Process(lost.pid), *(ranks if how == signal.SIGKILL else [])]:
            process.send_signal(how)
        assert lost.wait(PATIENCE) == (contract.UNFINISHED if how == signal.SIGTERM else -how)
        assert reached(tmp_path) < STEPS
        machines[0] = agent(what, 1, port)
        assert [machine.wait(PATIENCE) for machine in machines] == [0, 0]
    finally:
        for machine in machines:
            machine.kill()
    assert_undisturbed(tmp_path, undisturbed)
