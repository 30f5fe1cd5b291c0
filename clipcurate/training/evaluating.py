"""The evaluations of a training: at its end, and between steps where asked for."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from clipcurate.datasets.images import ImageIndex
from clipcurate.errors import DatasetError, InvalidInputError, NotFoundError, StorageError
from clipcurate.training import evaluate
from clipcurate.training.config import TrainConfig
from clipcurate.training.evaluate import Encoder

log = logging.getLogger(__name__)

Figures = dict[str, Any]
OnEvaluation = Callable[[int, Figures], None]
"""Told of each evaluation: after which step it was, and its figures without lists per class."""

FAILURES = (DatasetError, InvalidInputError, NotFoundError, StorageError, OSError)
"""What is wrong with the images of an evaluation, or with reading them; it ends no training."""

NAMES = {"retrieval": "retrieval", "zero-shot classification": "zero_shot"}
"""The name of an evaluation set's figures by its task."""


class _GivenUpError(Exception):
    """The training is to stop, and its evaluation with it."""


class Evaluations:
    """Evaluates one model again and again, and keeps the history.

    Figures are `train_retrieval`, among the training's own images; `zero_shot` or `retrieval`, on
    the evaluation set if there is one; and `error` where one of the two failed.

    An evaluation draws no random number and takes part in no exchange between ranks, so a training
    with it has the weights of one without. The other ranks of a world wait meanwhile for the one
    that evaluates, for `world.PATIENCE` at most.
    """

    def __init__(
        self,
        encoder: Encoder,
        index: ImageIndex,
        config: TrainConfig,
        eval_url: str,
        on_evaluation: OnEvaluation,
    ) -> None:
        self._encoder, self._index, self._eval_url = encoder, index, eval_url
        self._images = config.runtime.retrieval_images
        self._on_evaluation = on_evaluation
        self._task: evaluate.Task | None = None
        self._every, self._total_steps = config.runtime.eval_every, config.total_steps
        self.latest: Figures = {}
        self.history: list[Figures] = []

    def open(self) -> None:
        """Open the evaluation set, if there is one, without decoding it.

        Raises:
            InvalidInputError: there is nothing to evaluate on at its URL, or it is incomplete.
        """
        if self._eval_url and self._task is None:
            self._task = evaluate.open_task(self._eval_url, images=self._images)

    def is_due(self, step: int) -> bool:
        """Say whether to evaluate after a step that is not the last."""
        return self._every > 0 and step % self._every == 0 and 0 < step < self._total_steps

    def is_owed(self, step: int) -> bool:
        """Say whether an evaluation after a step is due and was not taken, or was given up."""
        return self.is_due(step) and all(line["step"] != step for line in self.history)

    def take(self, step: int, should_stop: Callable[[], bool]) -> Figures | None:
        """Evaluate the model as it is after `step`; it is back in training mode afterwards.

        What fails is logged, and told as the `error` of the figures.

        Args:
            step: how many the model has taken.
            should_stop: asked before each batch; if true, the evaluation is given up.

        Returns:
            The figures, with lists per class; None if it was given up, of which nothing is kept.
        """

        def before_batch() -> None:
            if should_stop():
                raise _GivenUpError

        try:
            figures = self._measured(replace(self._encoder, before_batch=before_batch))
        except _GivenUpError:
            return None
        finally:
            self._encoder.model.train()
        if "error" in figures:
            log.warning(
                "the evaluation after step %d failed, which ends no training: %s; put that right "
                "for the next one, or have `clipcurate evaluate` repeat it",
                step,
                figures["error"],
            )
        self.latest = figures
        self.history.append({"step": step, **self.short()})
        self._on_evaluation(step, self.short())
        return figures

    def short(self) -> Figures:
        """Return the latest figures without the list per class."""
        return {
            name: _without_classes(part) if name != "error" else part
            for name, part in self.latest.items()
        }

    def restore(self, lines: str, step: int) -> None:
        """Take up what `lines` wrote, up to a step."""
        logged = map(json.loads, lines.splitlines())
        self.history = [line for line in logged if line["step"] <= step]
        last = self.history[-1] if self.history else {}
        self.latest = {name: figures for name, figures in last.items() if name != "step"}

    def lines(self) -> str:
        """Return the history, a JSON object per line."""
        return "".join(json.dumps(line) + "\n" for line in self.history)

    def _measured(self, encoder: Encoder) -> Figures:
        """Return the figures of what does not fail, and why the rest did."""
        figures: Figures = {}
        errors = []
        for measure in (self._on_own_images, self._on_set):
            try:
                figures |= measure(encoder)
            except FAILURES as error:
                errors.append(str(error))
        return figures | ({"error": "; ".join(errors)} if errors else {})

    def _on_own_images(self, encoder: Encoder) -> Figures:
        return {"train_retrieval": evaluate.retrieval(encoder, self._index, self._images)}

    def _on_set(self, encoder: Encoder) -> Figures:
        self.open()
        return {NAMES[self._task.name]: self._task.measure(encoder)} if self._task else {}


def _without_classes(figures: Figures) -> Figures:
    return {name: value for name, value in figures.items() if name != "per_class"}
