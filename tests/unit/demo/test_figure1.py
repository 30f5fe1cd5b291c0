import json
from pathlib import Path

import pytest
from PIL import Image

from clipcurate.report.figure1 import Accuracy, Figure1, Training, draw_figure1


@pytest.fixture
def figure() -> Figure1:
    found = {"all": Accuracy(0.25, 400), "tail": Accuracy(0.0, 100)}
    names = ("raw", "matched", "balanced")
    return Figure1([Training(name, 1_000, 5_000, found) for name in names], chance=0.01)


def test_it_draws_png_and_svg(figure: Figure1, tmp_path: Path) -> None:
    draw_figure1(figure, tmp_path / "f.png", tmp_path / "f.svg")
    with Image.open(tmp_path / "f.png") as image:
        assert image.width > 1_000
    svg = (tmp_path / "f.svg").read_text()
    assert all(word in svg for word in ("balanced (1,000 pairs)", "chance", "tail", "25.0"))


def test_the_same_figure_gives_the_same_svg(figure: Figure1, tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        draw_figure1(figure, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_standard_error_is_the_binomial_one() -> None:
    assert Accuracy(0.5, 100).standard_error == pytest.approx(0.05)
    assert Accuracy(1.0, 100).standard_error == 0.0
    assert Accuracy(0.0, 0).standard_error == 0.0


def test_several_trainings_have_an_interval_instead() -> None:
    assert Accuracy(0.5, 100).half_width == pytest.approx(0.05)
    assert Accuracy(0.5, 100, interval=0.0).half_width == 0.0


def test_it_becomes_json(figure: Figure1) -> None:
    tree = json.loads(json.dumps(figure.to_dict()))
    assert tree["chance"] == 0.01
    assert tree["trainings"][2]["name"] == "balanced"
    assert tree["trainings"][0]["accuracies"]["all"]["standard_error"] == pytest.approx(
        0.02165, 1e-3
    )
