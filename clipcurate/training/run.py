"""A whole training: from a dataset's folder to weights, figures and an exported model.

    >>> from clipcurate.training import config_for
    >>> from clipcurate.training.run import train
    >>> train("out/datasets/…", config_for("tiny"), "out/training/…")  # doctest: +SKIP

The output folder (an fsspec URL) then holds `config.json`, `metrics.jsonl`, `evaluations.jsonl`,
`checkpoints/`, `evaluation.json`, `export/` and, written last, `summary.json`.
"""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

from clipcurate import storage
from clipcurate.errors import NotFoundError, TrainingError
from clipcurate.hashing import canonical_json
from clipcurate.training import checkpoint, evaluate, loop
from clipcurate.training.config import TrainConfig
from clipcurate.training.data import TrainingData
from clipcurate.training.evaluating import Evaluations, OnEvaluation
from clipcurate.training.export import export
from clipcurate.training.flops import peak_of
from clipcurate.training.identity import settings_of, training_id
from clipcurate.training.loop import StepRecord, TakenStep
from clipcurate.training.mixing import Datasets
from clipcurate.training.model import create_tokenizer, pick_device
from clipcurate.training.speed import Speedometer
from clipcurate.training.visits import Mix
from clipcurate.training.world import World


@dataclass(frozen=True)
class Progress:
    """Where a training stands after a step; the speed is that since the progress before.

    `mfu` is the share of the peak of rank 0's device that model FLOPs take, at the lengths of text
    that are processed, recomputing not counted; 0 where the peak is not known, as on a CPU.
    `evaluation` is the latest one, in short.
    """

    step: int
    total_steps: int
    seen_pairs: int
    loss: float
    lr: float
    logit_scale: float
    grad_norm: float
    digest: str
    pairs_per_second: float
    mfu: float = 0.0
    evaluation: Mapping[str, Any] = field(default_factory=dict)


def _line_of(progress: Progress) -> dict[str, Any]:
    """Return a line of metrics.jsonl: evaluations have a file of their own; no mfu that is none."""
    line = asdict(progress)
    del line["evaluation"]
    if not progress.mfu:
        del line["mfu"]
    return line


def ignore(*_: object) -> None:
    """Hear of progress or of an evaluation, and do nothing."""


def _never() -> bool:
    return False


def train(
    datasets: Datasets,
    config: TrainConfig,
    output_url: str,
    eval_url: str = "",
    *,
    on_progress: Callable[[Progress], None] = ignore,
    on_evaluation: OnEvaluation = ignore,
    should_stop: Callable[[], bool] = _never,
    world: World | None = None,
) -> dict[str, Any]:
    """Train on a dataset or several, or go on from the newest checkpoint in `output_url`.

    On one CPU a training that was stopped or killed and resumed gives the same losses and weights,
    bit for bit, as one that was not. Every rank of a world makes the same call; resuming may have
    another number of them.

    Args:
        datasets: folder of an emitted dataset with images, or several to mix by weight.
        config: all settings.
        output_url: folder for what comes out; one training each.
        eval_url: an evaluation set (see `evaluate.open_task`); "" for none. One that cannot be
            opened is refused before the first step; what is wrong with it later ends no training.
        on_progress: called after each step that is logged.
        on_evaluation: called after each evaluation, on the main rank.
        should_stop: asked after each step, and between the batches of an evaluation, which is then
            given up; if true on any rank, a checkpoint is saved and training stops.
        world: the processes that train together; None for this one alone.

    Returns:
        The summary; its `finished` is false if `should_stop` ended the training early.

    Raises:
        InvalidInputError: a dataset has no images, the weights are none to mix by, there is no
            evaluation set or it is incomplete, or a batch cannot be split among the ranks.
        TrainingError: a non-finite loss, or `output_url` belongs to another training.
    """
    mix = Mix.open(datasets)
    world = world or World(device=pick_device())
    training = _Training(mix, config, output_url, eval_url, world, on_evaluation)
    finished = training.finished_summary()
    if finished is not None:
        return finished
    with closing(training):
        training.start()
        if not training.take_steps(on_progress, should_stop):
            return training.summary(finished=False)
        return training.finish(should_stop)


class _Training:
    """One training in its output folder."""

    def __init__(
        self,
        mix: Mix,
        config: TrainConfig,
        output_url: str,
        eval_url: str,
        world: World,
        on_evaluation: OnEvaluation,
    ) -> None:
        self._mix = mix
        self._config = config
        self._output = output_url
        self._id = training_id(mix.manifests, config, eval_url)
        self._settings = canonical_json(settings_of(mix.manifests, config)).decode()
        self._world = world
        tokenize = create_tokenizer(config.model)
        self._data = TrainingData(mix, config, tokenize, world.rank, world.size)
        self._state = loop.initial_state(config, world.device)
        self._writer = checkpoint.Writer(
            self._path("checkpoints"),
            {"settings": self._settings, "config": config.to_dict()},
            checkpoint.Kept(
                config.runtime.keep_checkpoints,
                config.runtime.keep_every,
                config.runtime.checkpoint_every,
            ),
        )
        self._speed = Speedometer(config.data.batch_size, None, time.monotonic())
        self._lines: list[dict[str, Any]] = []
        encoder = evaluate.Encoder(self._state.model, tokenize, config.model.image_size)
        self._evaluations = Evaluations(encoder, mix.indexes[0], config, eval_url, on_evaluation)

    def finished_summary(self) -> dict[str, Any] | None:
        """Return the summary if this very training has already finished here."""
        try:
            summary = json.loads(storage.read_bytes(self._path("summary.json")))
        except NotFoundError:
            return None
        if summary["training_id"] != self._id:
            raise TrainingError(
                f"{self._output}: holds training {summary['training_id']} with other settings; "
                "give this training an output folder of its own"
            )
        return dict(summary)

    def start(self) -> None:
        """Restore the newest checkpoint and what was logged up to it, or start a new folder.

        Raises:
            InvalidInputError: a new training, and its evaluation set cannot be opened.
        """
        newest = self._world.agreed(checkpoint.newest(self._path("checkpoints")))
        if newest:
            checkpoint.restore(newest, self._state, self._settings)
            lines = storage.read_bytes(self._path("metrics.jsonl")).decode().splitlines()
            logged = [json.loads(line) for line in lines]
            self._lines = [line for line in logged if line["step"] <= self._state.step]
            if storage.exists(self._path("evaluations.jsonl")):  # else of an earlier version
                history = storage.read_bytes(self._path("evaluations.jsonl")).decode()
                self._evaluations.restore(history, self._state.step)
        elif self._world.is_main:
            self._evaluations.open()
            description = {"training_id": self._id, **self._mix.describe()}
            self._write_json("config.json", {**description, **self._config.to_dict()})

    def take_steps(
        self, on_progress: Callable[[Progress], None], should_stop: Callable[[], bool]
    ) -> bool:
        """Take the steps that are left; False if asked to stop before the last."""
        config, state = self._config, self._state
        owes = self._world.is_main and self._evaluations.is_owed(state.step)
        if self._world.any(owes) and self._is_stopped_evaluating(should_stop):
            return False
        peak = peak_of(state.device)
        self._speed = Speedometer(config.data.batch_size, peak, time.monotonic())
        with closing(self._data.batches(state.step, config.total_steps)) as batches:
            for taken in loop.train_steps(state, batches, config, self._world):
                self._speed.add(taken.flops)
                if self._is_logged(taken):
                    self._tell(taken, on_progress)
                if self._is_stopped_after(taken, should_stop):
                    self._writer.wait()
                    return False
        return True

    def close(self) -> None:
        """Finish writing the checkpoint that is under way, and what was logged."""
        self._writer.close()
        if self._lines and self._world.is_main:
            self._write_metrics()

    def finish(self, should_stop: Callable[[], bool]) -> dict[str, Any]:
        """Save, export and evaluate the trained model; return and write the summary.

        If asked to stop it is not written: then the evaluation is what is left to do.
        """
        completed = self._world.is_main and self._complete(should_stop)
        return self.summary(finished=self._world.any(completed))

    def summary(self, *, finished: bool) -> dict[str, Any]:
        """Return the figures of the training in short: evaluation without its list per class."""
        config, state = self._config, self._state
        return {
            "training_id": self._id,
            **self._mix.describe(),
            "preset": config.preset,
            "finished": finished,
            "step": state.step,
            "total_steps": config.total_steps,
            "seen_pairs": state.step * config.data.batch_size,
            "images": sum(map(len, self._mix.indexes)),
            "replaced_images": state.replaced,
            "first_loss": self._lines[0]["loss"],
            "loss": self._lines[-1]["loss"],
            "evaluation": self._evaluations.short(),
            "export_url": self._path("export") if finished else "",
        }

    def _complete(self, should_stop: Callable[[], bool]) -> bool:
        """Leave all that a finished training leaves; False if the evaluation was given up."""
        self._write_metrics()
        self._writer.save(self._state)
        self._writer.wait()
        export(self._state.model, self._config.model, self._path("export"))
        figures = self._evaluations.take(self._state.step, should_stop)
        if figures is None:
            return False
        self._write_metrics()
        self._write_json("evaluation.json", figures)
        self._write_json("summary.json", self.summary(finished=True))
        return True

    def _is_stopped_after(self, taken: TakenStep, should_stop: Callable[[], bool]) -> bool:
        """Save, and then evaluate, where a step is due for it; say whether any rank is to stop."""
        is_due = self._evaluations.is_due(taken.step)
        saves = is_due or taken.step % self._config.runtime.checkpoint_every == 0
        if saves:
            self._save(taken)
        if is_due:
            return self._is_stopped_evaluating(should_stop)
        last = taken.step == self._config.total_steps
        stops = self._world.any(should_stop() and not last)
        if stops and not saves:
            self._save(taken)
        return stops

    def _is_stopped_evaluating(self, should_stop: Callable[[], bool]) -> bool:
        """Evaluate on the main rank what is saved already; say whether any rank is to stop."""
        began = time.monotonic()
        takes = self._world.is_main
        gave_up = takes and self._evaluations.take(self._state.step, should_stop) is None
        self._speed.leave_out(time.monotonic() - began)
        return self._world.any(gave_up or should_stop())

    def _is_logged(self, taken: TakenStep) -> bool:
        total = self._config.total_steps
        return taken.step % self._config.runtime.log_every == 0 or taken.step in (1, total)

    def _tell(self, taken: TakenStep, on_progress: Callable[[Progress], None]) -> None:
        """Wait for a step and tell of it."""
        progress = self._progress(taken.read())
        self._lines.append(_line_of(progress))
        on_progress(progress)

    def _progress(self, record: StepRecord) -> Progress:
        return Progress(
            **asdict(record),
            **asdict(self._speed.tell(time.monotonic())),
            total_steps=self._config.total_steps,
            seen_pairs=record.step * self._config.data.batch_size,
            evaluation=self._evaluations.short(),
        )

    def _save(self, taken: TakenStep) -> None:
        """Save a checkpoint, if the steps so far were finite."""
        taken.read()
        if self._world.is_main:
            self._write_metrics()
            self._writer.save(self._state)

    def _write_metrics(self) -> None:
        lines = "".join(json.dumps(line) + "\n" for line in self._lines)
        storage.write_bytes(self._path("evaluations.jsonl"), self._evaluations.lines().encode())
        storage.write_bytes(self._path("metrics.jsonl"), lines.encode())

    def _write_json(self, name: str, value: dict[str, Any]) -> None:
        storage.write_bytes(self._path(name), json.dumps(value, indent=2).encode())

    def _path(self, name: str) -> str:
        return storage.join(self._output, name)
