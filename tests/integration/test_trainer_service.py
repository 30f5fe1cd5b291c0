"""The trainer as a real process: its RPCs, the tasks of a ledger, and SIGTERM."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from clipcurate.errors import InvalidInputError, NotFoundError
from clipcurate.rpc.clients import TrainerClient
from clipcurate.rpc.v1 import ledger_pb2 as pb
from clipcurate.rpc.v1 import ledger_pb2_grpc, trainer_pb2, trainer_pb2_grpc
from tests.image_datasets import write_image_dataset
from tests.ports import free_port
from tests.waiting import wait_until

PATIENCE = 60.0


def write_dataset(folder: Path, images: int) -> str:
    rows = [(image(number), [f"colour number {number}"]) for number in range(images)]
    return write_image_dataset(str(folder), [rows] if images else [])


def image(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (36, 36), (number * 7 % 256, number * 31 % 256, 128)).save(buffer, "PNG")
    return buffer.getvalue()


def spec(**overrides: object) -> pb.TrainSpec:
    small = {"batch_size": 8, "seen_pairs": 80, "checkpoint_every": 50, "log_every": 1}
    texts = {name: str(value) for name, value in (small | overrides).items()}
    return pb.TrainSpec(preset="tiny", overrides=texts)


@contextmanager
def trainer(tmp_path: Path, counter: str = "") -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    ready = tmp_path / f"ready-{time.monotonic_ns()}"
    settings = {
        "COUNTER": counter,
        "LISTEN": "127.0.0.1:0",
        "READY_FILE": str(ready),
        "TORCH_THREADS": "1",
    }
    environment = {f"CLIPCURATE_TRAINER_{name}": value for name, value in settings.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "services.trainer"],
        env=os.environ | environment | {"OMP_NUM_THREADS": "1"},
    )
    try:
        wait_until(lambda: ready.exists() and ready.read_text(), PATIENCE, "the trainer listens")
        yield process, ready.read_text()
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainerClient]:
    with (
        trainer(tmp_path_factory.mktemp("trainer")) as (_, address),
        TrainerClient(address) as client,
    ):
        yield client


def test_a_client_starts_watches_and_lists(client: TrainerClient, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", 32)
    started = client.start(dataset, spec(), str(tmp_path / "out"))
    updates = list(client.watch(started.training_id, 0.05))
    last = updates[-1]
    assert last.state == trainer_pb2.TRAINING_STATE_DONE
    assert (last.step, last.total_steps) == (10, 10)
    assert last.logit_scale > 1
    assert json.loads(last.evaluation_json)["train_retrieval"]["images"] == 32
    assert last.output_url == str(tmp_path / "out" / started.training_id)
    assert (Path(last.output_url) / "export" / "open_clip_config.json").exists()
    assert client.list()[0] == last
    assert client.start(dataset, spec(), str(tmp_path / "out")) == last


def test_a_client_stops_and_resumes(client: TrainerClient, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", 32)
    long = spec(seen_pairs=8 * 2000)
    long.eval_url = write_dataset(tmp_path / "held-out", 8)
    started = client.start(dataset, long, str(tmp_path / "out"))
    next(update for update in client.watch(started.training_id, 0.05) if update.step > 1)
    stopped = client.stop(started.training_id)
    assert stopped.state == trainer_pb2.TRAINING_STATE_STOPPED
    assert 1 < stopped.step < 2000
    (tmp_path / "held-out").rename(tmp_path / "elsewhere")  # which then ends no training
    resumed = client.start(dataset, long, str(tmp_path / "out"))
    updates = client.watch(resumed.training_id, 0.05)
    assert next(update for update in updates if update.step > stopped.step)
    client.stop(started.training_id)


def test_one_that_waits_stops_at_once_and_can_start_again(
    client: TrainerClient, tmp_path: Path
) -> None:
    dataset, out = write_dataset(tmp_path / "dataset", 32), str(tmp_path / "out")
    first = client.start(dataset, spec(seen_pairs=8 * 100_000), out)
    next(update for update in client.watch(first.training_id, 0.05) if update.step > 1)
    second = client.start(dataset, spec(seen_pairs=8 * 100_000, lr=0.01), out)
    assert second.state == trainer_pb2.TRAINING_STATE_WAITING
    watching = client.watch(second.training_id, 0.05)
    assert next(watching).state == trainer_pb2.TRAINING_STATE_WAITING
    stopped = client.stop(second.training_id)
    assert stopped.state == trainer_pb2.TRAINING_STATE_STOPPED
    assert client.stop(second.training_id) == stopped
    *_, last = watching
    assert last == stopped
    again = client.start(dataset, spec(seen_pairs=8 * 100_000, lr=0.01), out)
    assert again.state == trainer_pb2.TRAINING_STATE_WAITING
    client.stop(again.training_id)
    assert next(client.watch(first.training_id)).state == trainer_pb2.TRAINING_STATE_RUNNING
    client.stop(first.training_id)


def test_a_client_mixes_datasets_by_weight(client: TrainerClient, tmp_path: Path) -> None:
    urls = [write_dataset(tmp_path / name, size) for name, size in (("a", 32), ("b", 12))]

    def mixture(*weights: int) -> list[trainer_pb2.WeightedDataset]:
        pairs = zip(urls, weights, strict=True)
        return [trainer_pb2.WeightedDataset(url=url, weight=weight) for url, weight in pairs]

    started = client.start(mixture(3, 1), spec(), str(tmp_path / "out"))
    *_, last = client.watch(started.training_id, 0.05)
    assert last.state == trainer_pb2.TRAINING_STATE_DONE
    assert (last.dataset_url, list(last.datasets)) == ("", mixture(3, 1))
    summary = json.loads((Path(last.output_url) / "summary.json").read_text())
    assert (summary["training_id"], summary["images"]) == (started.training_id, 44)
    assert client.start(mixture(6, 2), spec(), str(tmp_path / "out")) == last
    with pytest.raises(InvalidInputError, match="positive weight"):
        client.start(mixture(3, 0), spec(), str(tmp_path / "out"))


def test_datasets_of_which_one_cannot_be_trained_on_are_refused_at_once(
    client: TrainerClient, tmp_path: Path
) -> None:
    urls = [write_dataset(tmp_path / name, size) for name, size in (("a", 8), ("b", 0))]
    mixture = [trainer_pb2.WeightedDataset(url=url, weight=1) for url in urls]
    with pytest.raises(InvalidInputError, match=f"{urls[1]}.*img2dataset"):
        client.start(mixture, spec(), str(tmp_path / "out"))
    twice = trainer_pb2.StartTrainingRequest(dataset_url=urls[0], datasets=mixture)
    with pytest.raises(grpc.RpcError, match="in datasets alone"):
        trainer_pb2_grpc.TrainerStub(client.channel).StartTraining(twice)


def test_why_a_training_failed_is_told(client: TrainerClient, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", 32)
    started = client.start(dataset, spec(lr="1e15", warmup_steps=0), str(tmp_path / "out"))
    *_, last = client.watch(started.training_id, 0.05)
    assert last.state == trainer_pb2.TRAINING_STATE_FAILED
    assert "train again with a lower lr" in last.error


def test_metrics_are_those_of_trainings_that_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("CLIPCURATE_TRAINER_METRICS_LISTEN", f"127.0.0.1:{port}")
    dataset = write_dataset(tmp_path / "dataset", 32)
    with trainer(tmp_path) as (_, address), TrainerClient(address) as client:
        wanted = spec(seen_pairs=8 * 10_000, eval_every=2, log_every=2)
        started = client.start(dataset, wanted, str(tmp_path / "out"))
        updates = client.watch(started.training_id, 0.05)
        next(update for update in updates if update.evaluation_json)
        shown = gauges(port, started.training_id)
        assert {name for name, _ in shown} == SHOWN
        figures = {name: value for (name, labels), value in shown.items() if not labels}
        assert figures["step"] > 1
        assert figures["pairs"] == 8 * figures["step"]
        assert (figures["steps"], figures["restarts"]) == (10_000, 0)
        assert 0 < figures["learning_rate"] < 1
        assert figures["gradient_norm"] > 0
        assert figures["logit_scale"] > 1
        recalls = {labels["metric"]: value for labels, value in evaluations(shown)}
        ways = ("image_to_text", "text_to_image")
        assert set(recalls) == {f"{way}/r@{k}" for way in ways for k in (1, 5, 10)}
        assert all(0 <= recall <= 1 for recall in recalls.values())
        client.stop(started.training_id)
        assert gauges(port, started.training_id) == {}


SHOWN = {"step", "steps", "pairs", "loss", "learning_rate", "logit_scale", "gradient_norm"}
SHOWN |= {"pairs_per_second", "mfu_ratio", "restarts", "evaluation_ratio"}
Shown = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def gauges(port: int, training: str) -> Shown:
    """Return what Prometheus reads of a training: by name, and labels but for the training."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        families = text_string_to_metric_families(answer.read().decode())
        samples = [sample for family in families for sample in family.samples]
    found = {}
    for sample in samples:
        labels = dict(sample.labels)
        if labels.pop("training", None) == training:
            name = sample.name.removeprefix("clipcurate_training_")
            found[name, tuple(sorted(labels.items()))] = sample.value
    return found


def evaluations(shown: Shown) -> Iterator[tuple[dict[str, str], float]]:
    for (name, labels), value in shown.items():
        if name == "evaluation_ratio":
            assert dict(labels)["dataset"] == "train_retrieval"
            yield dict(labels), value


def test_what_cannot_be_trained_is_refused_at_once(client: TrainerClient, tmp_path: Path) -> None:
    texts = write_dataset(tmp_path / "texts", 0)
    with pytest.raises(InvalidInputError, match="img2dataset"):
        client.start(texts, spec(), str(tmp_path))
    with pytest.raises(InvalidInputError, match="unknown setting 'rate'"):
        client.start(texts, spec(rate=1), str(tmp_path))
    with pytest.raises(NotFoundError, match="no dataset here"):
        client.start(str(tmp_path / "absent"), spec(), str(tmp_path))
    images = write_dataset(tmp_path / "images", 8)
    mistyped = spec()
    mistyped.eval_url = str(tmp_path / "typo")
    with pytest.raises(InvalidInputError, match="typo: nothing to evaluate on"):
        client.start(images, mistyped, str(tmp_path))
    with pytest.raises(NotFoundError, match=r"no training x .*StartTraining with the same request"):
        next(client.watch("x"))


class OneRunLedger(ledger_pb2_grpc.LedgerServicer):
    """A ledger with TRAIN tasks only: hands out each emission until it ends or fails for good."""

    def __init__(self, run: pb.Run) -> None:
        self.run = run
        self.open = [emission.key for emission in run.emissions]
        self.results: dict[str, pb.TrainResult] = {}
        self.failures: list[pb.FailTaskRequest] = []
        self.released: list[str] = []
        self.renewed: list[tuple[str, int]] = []
        self._lock = threading.Lock()

    def ClaimTask(self, request: pb.ClaimTaskRequest, context: object) -> pb.ClaimTaskResponse:
        with self._lock:
            if pb.STAGE_TRAIN not in request.stages or not self.open:
                return pb.ClaimTaskResponse()
            task = pb.Task(run_id="r", stage=pb.STAGE_TRAIN, emission_key=self.open.pop(0))
            lease = pb.Lease(task=task, token="t", ttl_seconds=0.3)
            return pb.ClaimTaskResponse(lease=lease, run=self.run)

    def RenewLease(self, request: pb.RenewLeaseRequest, context: object) -> pb.RenewLeaseResponse:
        self.renewed.append((request.lease.task.emission_key, request.units_done))
        return pb.RenewLeaseResponse(ttl_seconds=0.3)

    def CompleteTask(
        self, request: pb.CompleteTaskRequest, context: object
    ) -> pb.CompleteTaskResponse:
        self.results[request.lease.task.emission_key] = request.result.train
        return pb.CompleteTaskResponse()

    def FailTask(self, request: pb.FailTaskRequest, context: object) -> pb.FailTaskResponse:
        self.failures.append(request)
        return pb.FailTaskResponse(state=pb.TASK_STATE_BLOCKED)

    def ReleaseTask(
        self, request: pb.ReleaseTaskRequest, context: object
    ) -> pb.ReleaseTaskResponse:
        self.open.append(request.lease.task.emission_key)
        self.released.append(request.lease.task.emission_key)
        return pb.ReleaseTaskResponse()


@contextmanager
def serving(ledger: OneRunLedger) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4))
    ledger_pb2_grpc.add_LedgerServicer_to_server(ledger, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def emission(key: str, dataset_url: str, train: pb.TrainSpec) -> pb.Emission:
    plan = pb.PlanResult(dataset_url=dataset_url)
    return pb.Emission(key=key, spec=pb.EmissionSpec(train=train), plan=plan)


def test_trains_for_a_run_and_survives_sigterm(tmp_path: Path) -> None:
    steps = 200
    train = spec(seen_pairs=8 * steps)
    run = pb.Run(
        run_id="r",
        spec=pb.RunSpec(output_url=str(tmp_path / "out")),
        emissions=[
            emission("texts", write_dataset(tmp_path / "texts", 0), train),
            emission("images", write_dataset(tmp_path / "images", 32), train),
        ],
    )
    ledger = OneRunLedger(run)
    with serving(ledger) as address:
        with trainer(tmp_path, address) as (process, _):
            wait_until(lambda: any(units > 0 for _, units in ledger.renewed), PATIENCE, "a step")
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
        assert ledger.released == ["images"]
        assert not ledger.results
        (folder,) = (tmp_path / "out" / "training").iterdir()
        assert len(list((folder / "checkpoints").iterdir())) >= 1
        with trainer(tmp_path, address):
            wait_until(lambda: "images" in ledger.results, PATIENCE, "the training's result")

    (failure,) = ledger.failures
    assert failure.lease.task.emission_key == "texts"
    assert failure.kind == pb.FAILURE_KIND_PERMANENT
    assert "img2dataset" in failure.message
    result = ledger.results["images"]
    assert result.output_url == str(folder)
    assert json.loads(result.summary_json)["step"] == steps
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, steps + 1))
