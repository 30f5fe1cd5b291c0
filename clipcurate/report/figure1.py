"""The paper's Figure 1: zero-shot accuracy of CLIPs trained on raw, matched and balanced data.

Source: "Demystifying CLIP Data" (arXiv 2309.16671), Figure 1: same recipe, same number of seen
pairs, only the data differ.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COLOURS: tuple[str, ...] = ("#9aa5b1", "#4c78a8", "#e45756", "#f2a541")
"""Bar colours by position; they repeat if there are more trainings."""
LEGEND_COLUMNS = 4
"""More do not fit the figure's width."""


@dataclass(frozen=True)
class Accuracy:
    """Mean per-class accuracy over some classes."""

    value: float
    """Between 0 and 1."""
    images: int
    """Held-out images it was measured on."""
    interval: float | None = None
    """Half-width of a 95% interval over training seeds, where there are several."""

    @property
    def half_width(self) -> float:
        """What the error bar shows: the interval, or the standard error of a single training."""
        return self.standard_error if self.interval is None else self.interval

    @property
    def standard_error(self) -> float:
        """Binomial standard error from the choice of held-out images; training seeds add to it."""
        return math.sqrt(self.value * (1.0 - self.value) / self.images) if self.images else 0.0


@dataclass(frozen=True)
class Training:
    """One trained model: a series of bars."""

    name: str
    pairs: int
    """Pairs in its dataset."""
    seen_pairs: int
    """Pairs seen in training, repeats included."""
    accuracies: Mapping[str, Accuracy]
    """By group of classes, in the order of the figure, e.g. all, head, middle, tail."""


@dataclass(frozen=True)
class Figure1:
    """Everything the figure shows."""

    trainings: Sequence[Training]
    chance: float
    """Accuracy of guessing."""

    @property
    def groups(self) -> list[str]:
        """The groups of classes, as the first training orders them."""
        return list(self.trainings[0].accuracies)

    def to_dict(self) -> dict[str, Any]:
        """The figure as JSON values, standard errors included."""
        tree = dataclasses.asdict(self)
        for training, source in zip(tree["trainings"], self.trainings, strict=True):
            for group, accuracy in source.accuracies.items():
                training["accuracies"][group]["standard_error"] = accuracy.standard_error
        return tree


def draw_figure1(figure: Figure1, *paths: Path) -> None:
    """Draws the figure as a bar chart into every path; the suffix (.png, .svg) is the format.

    The same figure gives the same SVG bytes.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(7.5, 4.2), layout="constrained")
    FigureCanvasAgg(drawing)
    axes = drawing.subplots()
    for position, training in enumerate(figure.trainings):
        _draw_training(axes, figure, position, training)
    _label_axes(axes, figure)
    columns = min(len(figure.trainings) + 1, LEGEND_COLUMNS)
    drawing.legend(loc="outside lower center", ncols=columns, fontsize=8)
    with mpl.rc_context({"svg.hashsalt": "figure1", "svg.fonttype": "none"}):
        for path in paths:
            metadata = {"Date": None} if path.suffix == ".svg" else None
            drawing.savefig(path, dpi=150, metadata=metadata)


def _draw_training(axes: Any, figure: Figure1, position: int, training: Training) -> None:
    """Adds one training's bars, with errors and values in percent."""
    width = 0.8 / len(figure.trainings)
    shift = (position - (len(figure.trainings) - 1) / 2) * width
    found = [training.accuracies[group] for group in figure.groups]
    bars = axes.bar(
        [place + shift for place in range(len(found))],
        [100 * accuracy.value for accuracy in found],
        width,
        yerr=[100 * accuracy.half_width for accuracy in found],
        color=COLOURS[position % len(COLOURS)],
        error_kw={"elinewidth": 0.8, "capsize": 2},
        label=f"{training.name} ({training.pairs:,} pairs)",
    )
    axes.bar_label(bars, fmt="%.1f", fontsize=8, padding=2)


def _label_axes(axes: Any, figure: Figure1) -> None:
    """Adds the line of chance, the names and the title."""
    axes.axhline(100 * figure.chance, color="black", linestyle=":", linewidth=1, label="chance")
    axes.set_xticks(range(len(figure.groups)), figure.groups)
    axes.set_ylabel("zero-shot accuracy, mean per class (%)")
    seen = max(training.seen_pairs for training in figure.trainings)
    axes.set_title(f"Same recipe, {seen:,} seen pairs each: only the data differ", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
