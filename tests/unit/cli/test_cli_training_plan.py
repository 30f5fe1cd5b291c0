import pytest

pytest.importorskip("torch", reason="planning needs the train extra")

from clipcurate.cli.training_plan import show_plan
from clipcurate.errors import InvalidInputError
from clipcurate.training.config import config_for


def test_a_plan_shows_memory_time_and_cost(capsys: pytest.CaptureFixture[str]) -> None:
    show_plan(config_for("b32_400m"), "a100-40", 32, 0.5, 2.0)
    shown = capsys.readouterr().out
    assert "33.8 GFLOP per pair" in shown
    assert "50% of that rate" in shown
    # 12.8e9 pairs of 33.78 GFLOP at half of 312 TFLOP/s are 770 GPU hours.
    assert "770" in shown
    assert "1,540" in shown
    assert "256" in shown


def test_what_does_not_fit_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    show_plan(config_for("g14_fullcc"), "rtx4090", 512, None, 0.0)
    assert "does not fit" in capsys.readouterr().out


def test_this_cpu_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    show_plan(config_for("tiny"), "cpu", 1, None, 0.0)
    assert "this CPU" in capsys.readouterr().out


def test_an_unknown_gpu_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="choose one of a100-40"):
        show_plan(config_for("tiny"), "b300", 1, None, 0.0)
