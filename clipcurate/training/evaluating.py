"""The evaluations of a training: at its end, and between steps where asked for."""

import json
from collections.abc import Callable
from typing import Any

from clipcurate.datasets.images import ImageIndex
from clipcurate.training import evaluate
from clipcurate.training.config import TrainConfig
from clipcurate.training.evaluate import Encoder

Figures = dict[str, Any]
OnEvaluation = Callable[[int, Figures], None]
"""Told of each evaluation: after which step it was, and its figures without lists per class."""


class Evaluations:
    """Evaluates one model again and again, and keeps the history.

    An evaluation draws no random number and takes part in no exchange between ranks, so a training
    with it has the weights of one without. The other ranks of a world go on to the next step and
    wait there for the one that evaluates, for `world.PATIENCE` at most.
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
        self.every = config.runtime.eval_every
        self.latest: Figures = {}
        self.history: list[Figures] = []

    def is_due(self, step: int) -> bool:
        """Say whether to evaluate after a step that is not the last."""
        return self.every > 0 and step % self.every == 0

    def take(self, step: int) -> Figures:
        """Evaluate the model as it is after `step`; it is back in training mode afterwards."""
        figures: Figures = {
            "train_retrieval": evaluate.retrieval(self._encoder, self._index, self._images)
        }
        if self._eval_url:
            figures["zero_shot"] = evaluate.zero_shot(self._encoder, self._eval_url)
        self._encoder.model.train()
        self.latest = figures
        self.history.append({"step": step, **self.short()})
        self._on_evaluation(step, self.short())
        return figures

    def short(self) -> Figures:
        """Return the latest figures without the list per class."""
        return {
            name: {key: value for key, value in part.items() if key != "per_class"}
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
