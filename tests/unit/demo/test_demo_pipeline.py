import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from clipcurate.errors import ClipcurateError
from demo import pipeline
from demo.config import QUICK


def result(kind: str, kept: int, right: list[float]) -> pipeline.Result:
    evaluation: dict[str, Any] = {
        "chance": 1 / 3,
        "images": 12,
        "macro": sum(right) / 3,
        "groups": dict(zip(("tail", "head", "middle"), right, strict=True)),
        "per_class": [{"class": str(n), "images": 4, "accuracy": a} for n, a in enumerate(right)],
    }
    manifest = {"totals": {"kept": kept}}
    return pipeline.Result(kind, Path(), manifest, Path(), evaluation, {"seen_pairs": 256})


def test_results_become_the_figure(tmp_path: Path) -> None:
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "class_groups.txt").write_text("tail\nhead\nmiddle\n")
    results = {"raw": result("raw", 9, [0.0, 1.0, 0.5]), "matched": result("matched", 5, [1, 1, 1])}
    figure = pipeline.figure_of(results, tmp_path)
    assert figure.groups == ["all", "head", "middle", "tail"]
    raw, matched = figure.trainings
    assert (raw.name, raw.pairs, raw.seen_pairs) == ("raw", 9, 256)
    assert [found.value for found in raw.accuracies.values()] == [0.5, 1.0, 0.5, 0.0]
    assert [found.images for found in raw.accuracies.values()] == [12, 4, 4, 4]
    assert matched.accuracies["tail"].value == 1


def test_the_command_trains_alike_on_all_three_emissions(tmp_path: Path) -> None:
    words = pipeline.command(QUICK, tmp_path)
    assert [b for a, b in itertools.pairwise(words) if a == "--emit"] == [
        "raw",
        "matched",
        "balanced",
    ]
    assert words.count(f"seen_pairs={QUICK.seen_pairs}") == 1


def test_the_command_goes_to_running_services(tmp_path: Path) -> None:
    here, there = pipeline.command(QUICK, tmp_path), pipeline.command(QUICK, tmp_path, "counter:1")
    assert there[1:5] == ["submit", "--watch", "--server", "counter:1"]
    assert (here[1], here[2:]) == ("run", there[5:])


def test_a_failing_command_is_an_error_that_names_the_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "command", lambda config, output, server: ["false"])
    with pytest.raises(ClipcurateError, match="logs"):
        pipeline.run(QUICK, tmp_path)


def test_results_are_read_from_what_the_command_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = []
    for kind in pipeline.EMISSIONS:
        dataset, training = tmp_path / "sets" / kind, tmp_path / "run" / "training" / kind[::-1]
        dataset.mkdir(parents=True)
        training.mkdir(parents=True)
        (dataset / "manifest.json").write_text(json.dumps({"identity": {"kind": kind}}))
        (training / "summary.json").write_text(json.dumps({"dataset_url": str(dataset)}))
        (training / "evaluation.json").write_text(json.dumps({"zero_shot": {"macro": 0.5}}))
        lines.insert(0, str(dataset))
    words = ["printf", "%s\\n", *lines]
    monkeypatch.setattr(pipeline, "command", lambda config, output, server: words)
    results = pipeline.run(QUICK, tmp_path)
    assert list(results) == ["raw", "matched", "balanced"]
    assert results["matched"].training == tmp_path / "run" / "training" / "dehctam"
