"""The demo, shortened: the whole job by one command, through the four services."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is missing: the demo trains models"
)


def test_the_quick_demo_ends_with_a_figure_of_three_trainings(tmp_path: Path) -> None:
    output = tmp_path / "demo"
    command = [sys.executable, "-m", "demo", "--quick", "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

    figure = json.loads((output / "figure1.json").read_text())
    raw, matched, balanced = figure["trainings"]
    assert [t["name"] for t in figure["trainings"]] == ["raw", "matched", "balanced"]
    assert raw["pairs"] == 3_000 > matched["pairs"] > balanced["pairs"] > 0
    assert raw["seen_pairs"] == matched["seen_pairs"] == balanced["seen_pairs"] == 1_280
    assert figure["chance"] == pytest.approx(1 / 149, rel=0.2)
    for training in figure["trainings"]:
        assert list(training["accuracies"]) == ["all", "head", "middle", "tail"]
        assert all(0 <= found["value"] <= 1 for found in training["accuracies"].values())
    assert (output / "figure1.png").stat().st_size > 10_000
    assert (output / "figure1.svg").read_text().startswith("<?xml")

    assert "Figure 1 in miniature" in done.stdout
    next_commands = [line.split() for line in done.stdout.splitlines() if " verify " in line]
    verified = subprocess.run(next_commands[0], capture_output=True, text=True, check=False)
    assert verified.returncode == 0, verified.stdout + verified.stderr
