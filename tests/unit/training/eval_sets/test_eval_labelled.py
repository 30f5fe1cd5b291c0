from pathlib import Path

import pytest

from clipcurate.errors import InvalidInputError
from clipcurate.training import eval_sets

from ..conftest import CLASSES
from .test_eval_folders import write_folder


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("fgvc-aircraft", "macro"),
        ("vtab-caltech101", "macro"),
        ("OxfordIIITPet", "macro"),
        ("vtab-flowers", "macro"),
        ("cifar10", "accuracy"),
        ("imagenet1k", "accuracy"),
    ],
)
def test_metrics_are_those_of_clips_paper(name: str, metric: str) -> None:
    assert eval_sets.metric_of(name) == metric


def test_templates_and_metric_can_be_named(tmp_path: Path) -> None:
    url = str(write_folder(tmp_path / "pets", CLASSES))
    assert eval_sets.open_set(url).metric == "macro"
    data = eval_sets.open_set(url, templates="openai", metric="accuracy")
    assert (len(data.templates), data.metric) == (80, "accuracy")
    assert len(eval_sets.open_set(url, templates="simple").templates) == 7
    with pytest.raises(InvalidInputError, match="choose one of openai"):
        eval_sets.open_set(url, templates="best")
    with pytest.raises(InvalidInputError, match="unknown metric"):
        eval_sets.open_set(url, metric="f1")
