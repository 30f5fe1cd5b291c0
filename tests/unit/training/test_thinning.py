from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from clipcurate.datasets.request import EmissionRequest
from clipcurate.errors import InvalidInputError, TrainingError
from clipcurate.training.config import TrainConfig
from tests.frozen_runs import Run

from .thinned import BALANCED, MATCHED, SETTINGS, Reader, T, training_data

Make = Callable[..., TrainConfig]


@pytest.mark.parametrize(
    ("request_", "settings", "message"),
    [
        (BALANCED, {}, "is a balanced dataset; new coins each epoch"),
        (replace(MATCHED, kind="raw"), {}, "is a raw dataset; new coins each epoch"),
        (replace(MATCHED, semantics="record"), {}, "semantics record; online balancing"),
        (BALANCED, {"online": "false", "t_schedule": T + 1}, "t = 7 would show pairs"),
        (BALANCED, {"online": "false", "t_schedule": f"0:1,5:{T + 1}"}, "its own is 6"),
        (
            replace(BALANCED, t=None, size=40),
            {"online": "false", "t_schedule": 1e6},
            "would show pairs that this dataset does not hold",
        ),
    ],
)
def test_what_cannot_be_thinned_is_refused(
    run: Run, make_config: Make, request_: EmissionRequest, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        training_data(run.emit(request_), make_config(**SETTINGS | settings))


def test_pairs_are_counted_in_pieces(
    matched: str, make_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(**SETTINGS)
    whole = Reader(matched, config).epochs(5)
    monkeypatch.setattr("clipcurate.training.thinning.CHUNK", 10)
    reader = Reader(matched, config)
    assert len(reader.order._selection._edges) > 4
    assert reader.epochs(5) == whole


def test_a_threshold_that_keeps_nothing_stops_the_training(matched: str, make_config: Make) -> None:
    for online in ("true", "false"):
        config = make_config(**SETTINGS | {"t_schedule": 1e-9, "online": online})
        with pytest.raises(TrainingError, match="epoch 0 would show no image"):
            next(training_data(matched, config).batches(0, 1))
