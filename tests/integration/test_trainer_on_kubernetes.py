"""The trainer service with a cluster: trainings that outlive it, whose pods are real processes."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs the train extra")
pytest.importorskip("kubernetes", reason="needs the kubernetes extra")

from clipcurate.errors import TrainingError
from clipcurate.rpc.clients import TrainerClient
from clipcurate.rpc.v1 import ledger_pb2, trainer_pb2
from clipcurate.training import checkpoint, progress
from clipcurate.training.launch import contract
from tests.integration.test_trainer_service import (
    OneRunLedger,
    emission,
    serving,
    spec,
    trainer,
    write_dataset,
)
from tests.kubelet import Kubelet, kubelet
from tests.kubernetes_api import KubernetesApi, kubernetes_api
from tests.kubernetes_state import has_ended
from tests.waiting import wait_until

PATIENCE = 120.0
STEPS = 60


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesApi]:
    with kubernetes_api() as api:
        monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig(tmp_path / "kubeconfig")))
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        settings = {"LAUNCHER": "kubernetes", "IMAGE": "trainer:1", "NODES": "2", "GPUS": "0"}
        for name, value in settings.items():
            monkeypatch.setenv(f"CLIPCURATE_TRAINER_{name}", value)
        yield api


@pytest.fixture
def node(api: KubernetesApi) -> Iterator[Kubelet]:
    with kubelet(api.state) as node:
        yield node


def the_job(api: KubernetesApi) -> dict[str, str]:
    """Return name and uid of the only Job."""
    (job,) = api.state.all("jobs")
    return {name: job["metadata"][name] for name in ("name", "uid")}


def job_of(training: trainer_pb2.Training) -> str:
    """Return the name of a training's Job."""
    return f"clipcurate-train-{training.training_id[:16]}"


def test_a_training_outlives_its_trainer_and_its_pods(
    api: KubernetesApi, node: Kubelet, tmp_path: Path
) -> None:
    dataset = write_dataset(tmp_path / "dataset", 32)
    what = spec(seen_pairs=8 * STEPS, checkpoint_every=5)
    with trainer(tmp_path) as (process, address), TrainerClient(address) as client:
        started = client.start(dataset, what, str(tmp_path / "out"))
        next(update for update in client.watch(started.training_id, 0.05) if update.step > 1)
        job = the_job(api)
        process.kill()
    with trainer(tmp_path) as (_, address), TrainerClient(address) as client:
        (found,) = client.list()
        assert found.training_id == started.training_id
        assert found.state == trainer_pb2.TRAINING_STATE_RUNNING
        again = client.start(dataset, what, str(tmp_path / "out"))
        assert again.state == trainer_pb2.TRAINING_STATE_RUNNING
        node.kill(api.state.active(job["name"], 1))
        *_, last = client.watch(started.training_id, 0.05)
    assert last.state == trainer_pb2.TRAINING_STATE_DONE
    assert last.step == STEPS
    assert json.loads(last.evaluation_json)["train_retrieval"]["images"] == 32
    assert the_job(api) == job
    assert [pod["status"]["phase"] for pod in api.state.pods(job["name"])].count("Failed") >= 1
    lines = (Path(last.output_url) / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, STEPS + 1))


def test_stopping_saves_a_checkpoint_and_leaves_nothing_in_the_cluster(
    api: KubernetesApi, node: Kubelet, tmp_path: Path
) -> None:
    dataset = write_dataset(tmp_path / "dataset", 32)
    with trainer(tmp_path) as (process, address), TrainerClient(address) as client:
        what = spec(seen_pairs=8 * 100_000, checkpoint_every=100_000)
        started = client.start(dataset, what, str(tmp_path / "out"))
        next(update for update in client.watch(started.training_id, 0.05) if update.step > 1)
        stopped = client.stop(started.training_id)
        assert stopped.state == trainer_pb2.TRAINING_STATE_STOPPED
        (saved,) = checkpoint.saved(str(Path(started.output_url) / "checkpoints"))
        assert checkpoint.step_of(saved) >= stopped.step > 1
        assert not [*api.state.all("jobs"), *api.state.all("pods"), *api.state.all("services")]

        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_a_trainer_that_stops_leaves_its_trainings_alone(
    api: KubernetesApi, tmp_path: Path
) -> None:
    dataset = write_dataset(tmp_path / "dataset", 32)
    with trainer(tmp_path) as (process, address), TrainerClient(address) as client:
        started = client.start(dataset, spec(), str(tmp_path / "out"))
        name = job_of(started)
        wait_until(lambda: api.state.pods(name), PATIENCE, "pods")
        updates = client.watch(started.training_id, 0.05)
        next(updates)
        api.state.wait(api.state.active(name, 0), "ErrImagePull", "no such image")
        assert next(update for update in updates if "no such image" in update.note)
        process.send_signal(signal.SIGTERM)
        *_, last = updates
        assert last.state == trainer_pb2.TRAINING_STATE_RUNNING
        assert process.wait(PATIENCE) == 0
    assert len(api.state.pods(name)) == 2


def test_a_trainer_that_starts_knows_how_trainings_ended(
    api: KubernetesApi, tmp_path: Path
) -> None:
    dataset, out = write_dataset(tmp_path / "dataset", 32), str(tmp_path / "out")
    with trainer(tmp_path) as (process, address), TrainerClient(address) as client:
        failed = client.start(dataset, spec(), out)
        wait_until(lambda: len(api.state.all("services")) == 1, PATIENCE, "the first one's pods")
        done = client.start(dataset, spec(lr=0.1), out)
        wait_until(lambda: len(api.state.all("services")) == 2, PATIENCE, "the second one's pods")
        process.kill()
    progress.tell_failure(failed.output_url, TrainingError("step 3: loss nan"))
    api.state.fail(api.state.active(job_of(failed), 0), contract.HOPELESS)
    summary = {"training_id": done.training_id, "finished": True, "step": 10, "loss": 2.5}
    text = json.dumps(summary | {"evaluation": {"images": 32}})
    Path(done.output_url).mkdir(parents=True)
    (Path(done.output_url) / "summary.json").write_text(text)
    for index in range(2):
        api.state.succeed(api.state.active(job_of(done), index))

    with trainer(tmp_path) as (_, address), TrainerClient(address) as client:
        assert [found.training_id for found in client.list()] == [
            done.training_id,
            failed.training_id,
        ]
        *_, last = client.watch(failed.training_id, 0.05)
        assert last.state == trainer_pb2.TRAINING_STATE_FAILED
        assert last.error.startswith("step 3: loss nan (Job clipcurate-train-")
        *_, last = client.watch(done.training_id, 0.05)
        assert last.state == trainer_pb2.TRAINING_STATE_DONE
        assert (last.step, last.loss, json.loads(last.evaluation_json)) == (10, 2.5, {"images": 32})

        client.start(dataset, spec(), out)
        again = job_of(failed)
        wait_until(
            lambda: not all(has_ended(pod) for pod in api.state.pods(again)), PATIENCE, "new pods"
        )


def test_trainings_of_runs_go_side_by_side(api: KubernetesApi, tmp_path: Path) -> None:
    names = ["one", "two", "three"]
    run = ledger_pb2.Run(
        run_id="r",
        spec=ledger_pb2.RunSpec(output_url=str(tmp_path / "out")),
        emissions=[
            emission(name, write_dataset(tmp_path / name, 32 + number), spec())
            for number, name in enumerate(names)
        ],
    )
    ledger = OneRunLedger(run)
    with serving(ledger) as counter, trainer(tmp_path, counter) as (process, address):
        with TrainerClient(address) as client:
            running = [trainer_pb2.TRAINING_STATE_RUNNING] * 3
            wait_until(lambda: [t.state for t in client.list()] == running, PATIENCE, "all run")
        ledger.renewed.clear()
        wait_until(lambda: len({key for key, _ in ledger.renewed}) == 3, PATIENCE, "all leases")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert sorted(ledger.released) == sorted(names)
    assert not ledger.failures
    assert len(api.state.all("jobs")) == 3
