"""Figures of an evaluation from predictions and similarities: arrays in, numbers out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

RECALL_AT = (1, 5, 10)
TOP = 5


def classification(
    predicted: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
    classnames: Sequence[str],
    groups: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Return accuracy over images, `macro` over classes, per class and per group of classes.

    Args:
        predicted: class number per image, shape (images,); or the numbers of the likeliest, in
            descending order, shape (images, k): with k = 5 there is a figure `top5`.
        labels: true class number per image.
        classnames: name per class; a class without images counts nowhere.
        groups: name per class, e.g. "head" or "tail".
    """
    ranked = predicted.reshape(len(labels), -1)
    correct = (ranked[:, 0] == labels).astype(np.float64)
    images = np.bincount(labels, minlength=len(classnames))
    hits = np.bincount(labels, weights=correct, minlength=len(classnames))
    present = np.flatnonzero(images)
    accuracy = {int(c): float(hits[c] / images[c]) for c in present}
    figures: dict[str, Any] = {
        "images": len(labels),
        "chance": 1 / len(classnames),
        "accuracy": float(correct.mean()),
        "macro": _mean(list(accuracy.values())),
        "per_class": [
            {"class": classnames[c], "images": int(images[c]), "accuracy": accuracy[c]}
            for c in accuracy
        ],
    }
    if ranked.shape[1] == TOP:
        figures["top5"] = float((ranked == labels[:, None]).any(axis=1).mean())
    if groups is not None:
        figures["groups"] = {
            group: _mean([accuracy[c] for c in accuracy if groups[c] == group])
            for group in dict.fromkeys(groups[c] for c in accuracy)
        }
    return figures


def retrieval(
    similarity: npt.NDArray[np.float32], relevant: npt.NDArray[np.bool_]
) -> dict[str, dict[str, float]]:
    """Return recall at 1, 5 and 10 in both directions, each beside what chance would give.

    Args:
        similarity: of each image (row) with each text (column).
        relevant: whether the text belongs to the image; a text may belong to several.
    """
    return {
        "image_to_text": _recalls(similarity, relevant),
        "text_to_image": _recalls(similarity.T, relevant.T),
    }


def _recalls(
    similarity: npt.NDArray[np.float32], relevant: npt.NDArray[np.bool_]
) -> dict[str, float]:
    order = np.argsort(-similarity, axis=1, kind="stable")[:, : max(RECALL_AT)]
    found = np.take_along_axis(relevant, order, axis=1)
    figures = {}
    for k in RECALL_AT:
        figures[f"r@{k}"] = float(found[:, :k].any(axis=1).mean())
        figures[f"chance@{k}"] = _chance(relevant.sum(axis=1), relevant.shape[1], k)
    return figures


def _chance(wanted: npt.NDArray[np.int64], candidates: int, k: int) -> float:
    """Return the mean probability that k of `candidates`, drawn blindly, hold a wanted one."""
    drawn = np.arange(min(k, candidates))
    missed = np.clip(candidates - wanted[:, None] - drawn, 0, None) / (candidates - drawn)
    return float(1 - missed.prod(axis=1).mean())


def _mean(values: list[float]) -> float:
    return float(np.mean(values))
