"""What a run shows of its outcome."""

import json
from io import StringIO
from pathlib import Path

from rich.console import Console

from clipcurate.cli.progress import show_outcome
from clipcurate.datasets.run_plan import RunPlan
from clipcurate.pools import Columns
from clipcurate.rpc.v1 import ledger_pb2 as pb
from tests.frozen_runs import freeze, match


def emitted(tmp_path: Path) -> str:
    (tmp_path / "pool.csv").write_text("url,text\nhttp://127.0.0.1/1,a dog\n")
    plan = RunPlan.make([str(tmp_path / "pool.csv")], Columns(), 1000)
    return freeze(plan, match(plan), str(tmp_path)).emit()


def test_no_figure_is_cut_however_many_datasets_there_are(tmp_path: Path) -> None:
    kept = [10_700_000_000 + number for number in range(8)]
    dataset = emitted(tmp_path)
    emissions = [
        pb.Emission(
            spec=pb.EmissionSpec(kind=pb.EMISSION_KIND_BALANCED),
            plan=pb.PlanResult(dataset_url=dataset),
            published=pb.PublishResult(totals=pb.PairTotals(kept=number, dropped=1)),
        )
        for number in kept
    ]
    shown = StringIO()
    show_outcome(pb.Run(run_id="a" * 32, emissions=emissions), Console(file=shown, width=80))
    for number in kept:
        assert f" {number:,} " in shown.getvalue()
        assert f" {number + 1:,} " in shown.getvalue()


def test_a_training_shows_on_what_it_was_measured_and_what_could_not_be(tmp_path: Path) -> None:
    recalls = {f"{name}@{k}": 0.25 for name in ("r", "chance") for k in (1, 5, 10)}
    evaluation = {
        "train_retrieval": {"image_to_text": recalls, "text_to_image": recalls},
        "error": "set/0.tar: sample 'x' has no image that can be decoded",
    }
    summary = {"seen_pairs": 1000, "loss": 0.5, "evaluation": evaluation}
    trained = pb.TrainResult(output_url="folder", summary_json=json.dumps(summary))
    shown = StringIO()
    balanced = pb.Emission(
        spec=pb.EmissionSpec(kind=pb.EMISSION_KIND_BALANCED),
        plan=pb.PlanResult(dataset_url=emitted(tmp_path)),
        published=pb.PublishResult(totals=pb.PairTotals(kept=1)),
        trained=trained,
    )
    show_outcome(pb.Run(run_id="a" * 32, emissions=[balanced]), Console(file=shown, width=120))
    assert "training images, image to text: R@1 25.0% (chance 25.0%)" in shown.getvalue()
    assert "not evaluated: set/0.tar: sample 'x' has no image" in shown.getvalue()
