"""One pool curated in several ways, and the trainings on what comes out."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipcurate.report.figure1 import Accuracy, Figure1, Training
from clipcurate.training.launch import TrainJob
from clipcurate.training.launch.contract import WORKER
from demo.evalset import GROUPS
from harness.paired import Figures, differences, summary

ARMS = ("raw", "matched", "balanced", "online")
COMPARED = (
    ("matched", "raw"),
    ("balanced", "raw"),
    ("online", "raw"),
    ("balanced", "matched"),
    ("online", "balanced"),
)


@dataclass(frozen=True)
class Plan:
    """How all arms of a pool are emitted and trained."""

    tail_share: float
    seen_pairs: int
    settings: Mapping[str, str]
    """Beside those of the preset tiny."""
    learning_rates: tuple[float, ...]
    """To choose from on raw, with seed 0."""
    seeds: tuple[int, ...]
    """Of coins, weights and order."""
    most_repeats: int
    """How often the balanced dataset is seen at most."""


class Arms:
    """All below one folder: `pool`, `metadata.json`, `validation`, `test`, datasets, trainings."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        self.plan = plan

    def prepare(self, write_inputs: Callable[[Path], None]) -> None:
        """Write the inputs and emit the datasets of all seeds, as far as that is not done yet."""
        done = self.folder / "inputs.done"
        if not done.exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            write_inputs(self.folder)
            done.touch()
        for seed in self.plan.seeds:
            if not self._list_of(seed).exists():
                self._emit(seed)
        least = min(kept(self.dataset("balanced", seed)) for seed in self.plan.seeds)
        if self.plan.seen_pairs > self.plan.most_repeats * least:
            sys.exit(f"{self.folder}: {least} balanced pairs would be seen too often")

    def _emit(self, seed: int) -> None:
        kinds = ["matched", "balanced"] + ["raw"] * (seed == self.plan.seeds[0])
        options = {"pool": self.folder / "pool", "metadata": self.folder / "metadata.json"}
        options |= {"output": self.folder / "run"}
        words = ["--abandon", "--seed", str(seed), "--tail-share", str(self.plan.tail_share)]
        words += [word for kind in kinds for word in ("--emit", kind)]
        words += [word for name, value in options.items() for word in (f"--{name}", str(value))]
        command = [sys.executable, "-m", "clipcurate.cli.app", "run", *words]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found = {manifest(Path(line))["identity"]["kind"]: line for line in done.stdout.split()}
        self._list_of(seed).write_text(json.dumps(found))

    def _list_of(self, seed: int) -> Path:
        return self.folder / f"datasets-{seed}.json"

    def dataset(self, kind: str, seed: int) -> Path:
        """Return the dataset of a kind. Raw has no coins, so all seeds share it."""
        of = self.plan.seeds[0] if kind == "raw" else seed
        return Path(json.loads(self._list_of(of).read_text())[kind])

    @property
    def t(self) -> float:
        """The threshold of the tail share; counts decide it, so it is the same for every seed."""
        return float(manifest(self.dataset("balanced", self.plan.seeds[0]))["cuts"]["all"]["t"])

    def candidates(self) -> dict[float, TrainJob]:
        """Return the trainings on raw that choose the learning rate."""
        dataset = self.dataset("raw", self.plan.seeds[0])
        return {
            rate: self._job("rate", dataset, 0, rate, "validation")
            for rate in self.plan.learning_rates
        }

    def learning_rate(self) -> float:
        """Return the one with the best macro accuracy on the validation set."""
        found = {rate: figures_of(job)["all"] for rate, job in self.candidates().items()}
        return max(found, key=lambda rate: found[rate])

    def jobs(self, seed: int) -> list[TrainJob]:
        """Return the trainings of all arms with a seed."""
        return [self.job(arm, seed) for arm in ARMS]

    def job(self, arm: str, seed: int) -> TrainJob:
        """Return the training of an arm."""
        online = {"online": "true", "t_schedule": repr(self.t)} if arm == "online" else {}
        dataset = self.dataset("matched" if arm == "online" else arm, seed)
        return self._job(arm, dataset, seed, self.learning_rate(), "test", **online)

    def _job(
        self, name: str, dataset: Path, seed: int, rate: float, evaluated: str, **more: str
    ) -> TrainJob:
        settings = {"seen_pairs": str(self.plan.seen_pairs), **self.plan.settings}
        settings |= {"seed": str(seed), "lr": repr(rate), **more}
        output = self.folder / "training" / f"{name}-{seed}-{rate:g}"
        return TrainJob(str(dataset), "tiny", str(output), settings, str(self.folder / evaluated))

    def results(self) -> dict[str, Any]:
        """Return what came out: accuracies by arm and group of classes, and their differences."""
        found = {arm: [figures_of(self.job(arm, s)) for s in self.plan.seeds] for arm in ARMS}
        zero_shot = evaluation(self.job("raw", self.plan.seeds[0]))
        rates = {f"{rate:g}": figures_of(job)["all"] for rate, job in self.candidates().items()}
        return {
            "t": self.t,
            "pairs": {arm: self._pairs(arm) for arm in ARMS},
            "seen_pairs": self.plan.seen_pairs,
            "macro_on_raw_by_learning_rate": rates,
            "learning_rate": self.learning_rate(),
            "test_images": zero_shot["images"],
            "chance": zero_shot["chance"],
            "accuracy": {arm: summary(figures) for arm, figures in found.items()},
            "differences": {f"{a} - {b}": differences(found[a], found[b]) for a, b in COMPARED},
        }

    def _pairs(self, arm: str) -> list[int]:
        kind = "matched" if arm == "online" else arm
        return [kept(self.dataset(kind, seed)) for seed in self.plan.seeds]


def manifest(dataset: Path) -> dict[str, Any]:
    """Return the manifest of a dataset."""
    tree: dict[str, Any] = json.loads((dataset / "manifest.json").read_text())
    return tree


def kept(dataset: Path) -> int:
    """Return the pairs of a dataset."""
    return int(manifest(dataset)["totals"]["kept"])


def evaluation(job: TrainJob) -> dict[str, Any]:
    """Return the zero-shot figures of a finished training."""
    tree = json.loads((Path(job.output_url) / "evaluation.json").read_text())
    return dict(tree["zero_shot"])


def figures_of(job: TrainJob) -> Figures:
    """Return macro accuracy over all classes and over each group of them."""
    found = evaluation(job)
    return {"all": found["macro"], **{group: found["groups"][group] for group in GROUPS}}


def train_all(jobs: list[TrainJob]) -> None:
    """Train what has not been trained yet, two at a time on one thread each."""
    with ThreadPoolExecutor(2) as workers:
        list(workers.map(_train, jobs))


def _train(job: TrainJob) -> None:
    output, start = Path(job.output_url), time.monotonic()
    if (output / "summary.json").exists():
        return
    output.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", WORKER, job.to_json()]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with (output / "log").open("w") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log, env=environment)
    seconds = time.monotonic() - start
    print(f"{output}: macro {figures_of(job)['all']:.4f}, {seconds:.0f} s", flush=True)


def figure_of(results: Mapping[str, Any]) -> Figure1:
    """Return the bars of the arms, with the intervals over seeds."""
    trainings = [
        Training(
            arm,
            round(statistics.mean(results["pairs"][arm])),
            results["seen_pairs"],
            {
                group: Accuracy(found["mean"], results["test_images"], found["half_width"])
                for group, found in results["accuracy"][arm].items()
            },
        )
        for arm in ARMS
    ]
    return Figure1(trainings, results["chance"])
