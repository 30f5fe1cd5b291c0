"""What a run shows of its outcome."""

from io import StringIO
from pathlib import Path

from rich.console import Console

from clipcurate.cli.progress import show_outcome
from clipcurate.datasets.run_plan import RunPlan
from clipcurate.pools import Columns
from clipcurate.rpc.v1 import ledger_pb2 as pb
from tests.frozen_runs import freeze, match


def test_no_figure_is_cut_however_many_datasets_there_are(tmp_path: Path) -> None:
    kept = [10_700_000_000 + number for number in range(8)]
    (tmp_path / "pool.csv").write_text("url,text\nhttp://127.0.0.1/1,a dog\n")
    plan = RunPlan.make([str(tmp_path / "pool.csv")], Columns(), 1000)
    dataset = freeze(plan, match(plan), str(tmp_path)).emit()
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
