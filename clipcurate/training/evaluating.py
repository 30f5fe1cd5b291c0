"""The evaluations of a training: at its end, and between steps where asked for."""

import json
from typing import Any

from clipcurate.datasets.images import ImageIndex
from clipcurate.training import evaluate
from clipcurate.training.config import TrainConfig
from clipcurate.training.evaluate import Encoder

Figures = dict[str, Any]


class Evaluations:
    """Evaluates one model again and again, and keeps the history.

    An evaluation draws no random number and takes part in no exchange between ranks, so a training
    with it has the weights of one without. The other ranks of a world go on to the next step and
    wait there for the one that evaluates, for `world.PATIENCE` at most.
    """

    def __init__(
        self, encoder: Encoder, index: ImageIndex, config: TrainConfig, eval_url: str
    ) -> None:
        self._encoder, self._index, self._eval_url = encoder, index, eval_url
        self._images = config.runtime.retrieval_images
        self.every = config.runtime.eval_every
        self.latest: Figures = {}
        self.history: list[Figures] = []

    def is_due(self, step: int) -> bool:
        """Say whether to evaluate after a step that is not the last."""
        return self.every > 0 and step % self.every == 0

    def take(self, step: int) -> Figures:
        """Evaluate the model as it is after `step`; it is back in training mode afterwards."""
        figures: Figures = {
            "retrieval": evaluate.retrieval(self._encoder, self._index, self._images)
        }
        if self._eval_url:
            figures["zero_shot"] = evaluate.zero_shot(self._encoder, self._eval_url)
        self._encoder.model.train()
        self.latest = figures
        self.history.append({"step": step, **self.short()})
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

    def lines(self) -> str:
        """Return the history, a JSON object per line."""
        return "".join(json.dumps(line) + "\n" for line in self.history)
