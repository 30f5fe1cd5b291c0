"""Runs the pool through the user's own command, and reads what it left behind."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipcurate.errors import ClipcurateError, NotFoundError
from clipcurate.report.figure1 import Accuracy, Figure1, Training
from demo.config import DemoConfig
from demo.evalset import GROUPS

EMISSIONS: tuple[str, ...] = ("raw", "matched", "balanced")
"""The datasets in the order of the figure."""

ALL_CLASSES = "all"
"""Name of the group that holds every class."""


@dataclass(frozen=True)
class Result:
    """One dataset and the model trained on it."""

    kind: str
    dataset: Path
    manifest: dict[str, Any]
    training: Path
    evaluation: dict[str, Any]
    summary: dict[str, Any]


def command(config: DemoConfig, output: Path, server: str = "") -> list[str]:
    """The one command that does the whole job: here, or on the services at `server`."""
    emissions = [word for kind in EMISSIONS for word in ("--emit", kind)]
    return [
        str(Path(sys.executable).with_name("clipcurate")),
        *(("submit", "--watch", "--server", server) if server else ("run",)),
        *("--pool", str(output / "pool")),
        *("--metadata", str(output / "metadata.json")),
        *("--output", str(output / "run")),
        *emissions,
        *("--tail-share", str(config.tail_share)),
        *("--seed", str(config.seed)),
        *("--train", "tiny"),
        *("--train-set", f"seen_pairs={config.seen_pairs}"),
        *("--train-set", f"lr={config.learning_rate}"),
        *("--eval", str(output / "eval")),
    ]


def run(config: DemoConfig, output: Path, server: str = "") -> dict[str, Result]:
    """Curates the pool three ways, trains on each, and returns the results by kind.

    Raises:
        ClipcurateError: the command failed; it has said why on stderr.
        NotFoundError: it succeeded, but left no training for a dataset.
    """
    words = command(config, output, server)
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        logs = f"those of {server}" if server else str(output / "run" / ".clipcurate" / "logs")
        verb = "submit" if server else "run"
        raise ClipcurateError(
            f"clipcurate {verb} ended with exit status {done.returncode}; its logs: {logs}"
        )
    results = [_result(Path(line), output / "run") for line in done.stdout.splitlines() if line]
    by_kind = {result.kind: result for result in results}
    return {kind: by_kind[kind] for kind in EMISSIONS}


def figure_of(results: dict[str, Result], output: Path) -> Figure1:
    """The figure that the results make."""
    groups = (output / "eval" / "class_groups.txt").read_text(encoding="utf-8").split()
    trainings = [_training(result, groups) for result in results.values()]
    (chance,) = {result.evaluation["chance"] for result in results.values()}
    return Figure1(trainings, chance)


def _result(dataset: Path, run_folder: Path) -> Result:
    """The dataset's manifest and the figures of the training on it."""
    manifest = _read_json(dataset / "manifest.json")
    for path in sorted((run_folder / "training").glob("*/summary.json")):
        summary = _read_json(path)
        if Path(summary["dataset_url"]) == dataset:
            evaluation = _read_json(path.with_name("evaluation.json"))["zero_shot"]
            kind = manifest["identity"]["kind"]
            return Result(kind, dataset, manifest, path.parent, evaluation, summary)
    raise NotFoundError(f"{run_folder}/training: no finished training on {dataset}")


def _training(result: Result, groups: list[str]) -> Training:
    """One series of the figure."""
    images = dict.fromkeys(GROUPS, 0)
    for group, figures in zip(groups, result.evaluation["per_class"], strict=True):
        images[group] += figures["images"]
    found = {ALL_CLASSES: Accuracy(result.evaluation["macro"], result.evaluation["images"])}
    for group in GROUPS:
        found[group] = Accuracy(result.evaluation["groups"][group], images[group])
    kept = result.manifest["totals"]["kept"]
    return Training(result.kind, kept, result.summary["seen_pairs"], found)


def _read_json(path: Path) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return tree
