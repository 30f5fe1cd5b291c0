from math import comb

import numpy as np
import pytest

from clipcurate.training import metrics


def test_macro_weighs_classes_equally() -> None:
    labels = np.array([0, 0, 0, 0, 1, 2])
    predicted = np.array([0, 0, 0, 1, 2, 2])
    figures = metrics.classification(
        predicted, labels, ["a", "b", "c", "unseen"], ["head", "tail", "tail", "tail"]
    )
    assert figures["accuracy"] == pytest.approx(4 / 6)
    assert figures["macro"] == pytest.approx((0.75 + 0 + 1) / 3)
    assert figures["groups"] == pytest.approx({"head": 0.75, "tail": 0.5})
    assert figures["chance"] == 0.25
    assert figures["per_class"] == [
        {"class": "a", "images": 4, "accuracy": 0.75},
        {"class": "b", "images": 1, "accuracy": 0.0},
        {"class": "c", "images": 1, "accuracy": 1.0},
    ]


def test_recall_counts_any_of_an_images_texts() -> None:
    relevant = np.array([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=bool)
    similarity = np.array(
        [[0.1, 0.9, 0.2, 0.3], [0.8, 0.1, 0.25, 0.3], [0.0, 0.1, 0.2, 0.9]], dtype=np.float32
    )
    figures = metrics.retrieval(similarity, relevant)
    assert figures["image_to_text"]["r@1"] == pytest.approx(2 / 3)
    assert figures["text_to_image"]["r@1"] == pytest.approx(3 / 4)
    assert figures["image_to_text"]["r@5"] == figures["text_to_image"]["r@5"] == 1
    assert figures["text_to_image"]["chance@1"] == pytest.approx(1 / 3)
    assert figures["image_to_text"]["chance@1"] == pytest.approx((2 + 1 + 1) / 3 / 4)


def test_chance_is_the_hypergeometric_law() -> None:
    relevant = np.zeros((40, 100), dtype=bool)
    relevant[:, :3] = True
    figures = metrics.retrieval(np.zeros((40, 100), np.float32), relevant)
    assert figures["image_to_text"]["chance@10"] == pytest.approx(1 - comb(97, 10) / comb(100, 10))
