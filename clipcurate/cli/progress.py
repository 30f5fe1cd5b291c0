"""A run's progress and its outcome, for people."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf import json_format
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.progress import TimeElapsedColumn as Elapsed
from rich.table import Table

from clipcurate.datasets import manifest
from clipcurate.rpc.emissions import KIND_NAMES
from clipcurate.rpc.v1 import ledger_pb2 as pb

STAGE_NAMES = {
    pb.STAGE_KEYS: "read ids",
    pb.STAGE_DEDUP: "find duplicates",
    pb.STAGE_MATCH: "match and count",
    pb.STAGE_FREEZE: "freeze the counts",
    pb.STAGE_SCORE: "score",
    pb.STAGE_SEAL: "seal the pool",
    pb.STAGE_GATHER: "gather images",
    pb.STAGE_SETTLE: "settle images",
    pb.STAGE_PLAN: "plan parts",
    pb.STAGE_WRITE: "write parts",
    pb.STAGE_PUBLISH: "publish",
    pb.STAGE_TRAIN: "train",
}


SMALL = 1000
"""Below so many pairs, an expected size is shown with a decimal."""
LANGUAGES_SHOWN = 20
DATASETS_SIDE_BY_SIDE = 3
"""So that figures of billions are shown whole on 80 columns."""


def follow(updates: Iterable[pb.Run], console: Console) -> pb.Run:
    """Show a run's stages as bars until the updates end; return the last one."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        Elapsed(),
    )
    run = pb.Run()
    with Progress(*columns, console=console) as bars:
        known: dict[tuple[int, str], TaskID] = {}
        stable: list[TaskID] = []
        for run in updates:
            names = {emission.key: KIND_NAMES[emission.spec.kind] for emission in run.emissions}
            for stage in run.stages:
                key = (stage.stage, stage.emission_key)
                if key not in known:
                    known[key] = bars.add_task(_title(stage, names), total=None, note="")
                done = stage.done + stage.quarantined
                bars.update(known[key], total=stage.total, completed=done, note=_note(stage))
                if stage.stage == pb.STAGE_MATCH:
                    stable = stable or [bars.add_task("stable counts", total=None, note="")]
                    bars.update(stable[0], **_stability(run))
    return run


def follow_as_json(updates: Iterable[pb.Run]) -> pb.Run:
    """Print a JSON object per update, until the updates end; return the last one."""
    run = pb.Run()
    for run in updates:
        value = json_format.MessageToDict(
            run, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        print(json.dumps(value, ensure_ascii=False), flush=True)
    return run


def _stability(run: pb.Run) -> dict[str, Any]:
    """Return the state of the bar that shows how many windows were stable in a row."""
    found, below = run.stability_progress, run.stability_progress.windows_below
    if run.frozen.HasField("convergence"):
        return {"total": 1, "completed": 1, "note": describe_counts(run)}
    if run.stability == pb.STABILITY_COMPLETE:
        return {"total": 1, "completed": 1, "note": f"complete: {found.pairs_seen:,} pairs"}
    about = "about " if found.announced_estimated else ""
    notes = [f"{found.pairs_seen:,} of {about}{found.pairs_announced:,} pairs seen"]
    if found.drifts:
        notes.append(f"drift {found.drifts[-1]:.2g} (epsilon {found.epsilon:g})")
    if run.stability == pb.STABILITY_CONVERGED:
        notes.insert(0, "converged")
    wanted = found.windows_wanted
    return {"total": wanted, "completed": min(below, wanted), "note": ", ".join(notes)}


def describe_counts(run: pb.Run) -> str:
    """Say how stable a run's counts are, and where they were frozen before all were counted."""
    if run.frozen.HasField("convergence"):
        found = run.frozen.convergence
        return f"frozen at {found.pairs_seen / found.pairs_announced:.0%} of the pool, converged"
    name = pb.Stability.Name(run.stability).removeprefix("STABILITY_").lower()
    return f"frozen, {name}" if run.HasField("frozen") else name


def _title(stage: pb.StageProgress, names: Mapping[str, str]) -> str:
    name = STAGE_NAMES[stage.stage]
    emission = names.get(stage.emission_key, stage.emission_key)
    return f"{emission}: {name}" if emission else name


def _note(stage: pb.StageProgress) -> str:
    notes = []
    if stage.units_total:
        notes.append(f"{stage.units_done:,} of {stage.units_total:,}")
    elif stage.units_done:
        notes.append(f"{stage.units_done:,} pairs")
    if stage.waiting:
        notes.append(f"{stage.waiting} wait")
    if stage.blocked:
        notes.append(f"[red]{stage.blocked} blocked[/red]")
    if stage.quarantined:
        notes.append(f"[yellow]{stage.quarantined} quarantined[/yellow]")
    return ", ".join(notes)


def say(console: Console, text: str, *, markup: bool = True) -> None:
    """Print one line that stays one line when it is piped or copied."""
    console.print(text, highlight=False, soft_wrap=True, markup=markup)


def show_problems(run: pb.Run, console: Console) -> None:
    """Print blocked and quarantined tasks with their reasons."""
    for record in run.problems:
        blocked = record.state == pb.TASK_STATE_BLOCKED
        label = "[red]blocked[/red]" if blocked else "[yellow]quarantined[/yellow]"
        stage = STAGE_NAMES[record.task.stage]
        say(console, f"{label} {stage}, task {record.task.index}:")
        say(console, f"  {record.error}", markup=False)


def show_languages(spec: pb.RunSpec, console: Console) -> None:
    """Name a run's metadata languages where there are several."""
    if len(spec.metadata) > 1:
        names = [ref.language for ref in spec.metadata]
        say(console, f"{len(names)} metadata languages: {_some(names)}")


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:LANGUAGES_SHOWN], *["…"][: len(names) > LANGUAGES_SHOWN]])


def _show_unmatched(run: pb.Run, console: Console) -> None:
    """Print the unmatched pairs per language where there are several, most first."""
    known = {ref.language for ref in run.spec.metadata}
    unmatched = run.unmatched_by_language
    if len(known | set(unmatched)) == 1:
        return
    order = sorted(unmatched, key=lambda name: (-unmatched[name], name))
    table = Table("language", "unmatched", "", title="Unmatched pairs")
    for name in order[:LANGUAGES_SHOWN]:
        table.add_row(escape(name), f"{unmatched[name]:,}", "" if name in known else "no metadata")
    if rest := order[LANGUAGES_SHOWN:]:
        table.add_row(f"{len(rest)} more", f"{sum(unmatched[name] for name in rest):,}", "")
    console.print(table)


def show_outcome(run: pb.Run, console: Console) -> None:
    """Print what became of every pair, per emission, and where the datasets lie."""
    show_problems(run, console)
    say(console, f"run {run.run_id}: {run.pairs:,} pairs, {run.hits:,} hits counted")
    if run.frozen.HasField("convergence"):
        say(console, f"  counts {describe_counts(run)}")
    _show_unmatched(run, console)
    published = [emission for emission in run.emissions if emission.HasField("published")]
    if not published:
        return
    for start in range(0, len(published), DATASETS_SIDE_BY_SIDE):
        console.print(_outcomes(published[start : start + DATASETS_SIDE_BY_SIDE]))
    for emission in published:
        _show_dataset(emission, console)


def _outcomes(published: Sequence[pb.Emission]) -> Table:
    table = Table("outcome", *[KIND_NAMES[e.spec.kind] for e in published], title="Pairs")
    for outcome in pb.PairTotals.DESCRIPTOR.fields_by_name:
        counts = [f"{getattr(e.published.totals, outcome):,}" for e in published]
        table.add_row(outcome.replace("_", " "), *counts)
    table.add_row("total", *[f"{_total(e.published.totals):,}" for e in published], style="bold")
    return table


def _total(totals: pb.PairTotals) -> int:
    return sum(getattr(totals, name) for name in pb.PairTotals.DESCRIPTOR.fields_by_name)


def _show_dataset(emission: pb.Emission, console: Console) -> None:
    found = manifest.load(emission.plan.dataset_url)
    kind = KIND_NAMES[emission.spec.kind]
    cuts = _describe_cuts(found.cuts)
    digits = 1 if found.expected_size < SMALL else 0
    expected = f"expected {found.expected_size:,.{digits}f} ± {found.size_deviation:,.{digits}f}"
    say(console, f"[bold]{kind}[/bold] {escape(emission.plan.dataset_url)}")
    say(console, f"  dataset hash {found.dataset_hash}")
    if cuts:
        say(console, f"  {cuts}, {expected}, kept {found.totals.kept:,}")
    warn_of_zeros({name: cut["t"] for name, cut in found.cuts.items()}, console)
    if found.repeated_uids:
        note = "kept pairs repeat the uid of another one (same image key and text)"
        say(console, f"  [yellow]{found.repeated_uids:,}[/yellow] {note}")
    if emission.HasField("trained"):
        _show_training(emission.trained, console)


def warn_of_zeros(thresholds: Mapping[str, float], console: Console) -> None:
    """Say which languages a threshold of 0 drops, if any."""
    if zeros := [name for name, t in thresholds.items() if t == 0]:
        say(
            console,
            f"  [yellow]warning[/yellow]: t is 0 in {_some(zeros)}, so all pairs there are "
            "dropped: the share asked for lies among entries without texts; --tail-rule positive "
            "takes the smallest positive count",
        )


def _describe_cuts(cuts: Mapping[str, Mapping[str, Any]]) -> str:
    if len(cuts) <= 1:
        return "".join(f"t = {cut['t']:g}" for cut in cuts.values())
    return "t = " + _some([f"{cut['t']:g} ({name})" for name, cut in cuts.items()])


def _show_training(trained: pb.TrainResult, console: Console) -> None:
    """Print where a model lies and what it can do, beside what guessing would give."""
    summary = json.loads(trained.summary_json)
    say(console, f"  [bold]trained[/bold] {escape(trained.output_url)}")
    say(console, f"  {summary['seen_pairs']:,} seen pairs, loss {summary['loss']:.4f}")
    _show_evaluation(summary["evaluation"], console)


def _show_evaluation(evaluation: Mapping[str, Any], console: Console) -> None:
    """Print what was measured, and why the rest was not."""
    for name, among in (("train_retrieval", "training images"), ("retrieval", "evaluation set")):
        for direction in ("image_to_text", "text_to_image") if name in evaluation else ():
            figures = evaluation[name][direction]
            recalls = [
                f"R@{k} {figures[f'r@{k}']:.1%} (chance {figures[f'chance@{k}']:.1%})"
                for k in (1, 5, 10)
            ]
            say(console, f"  {among}, {direction.replace('_', ' ')}: {', '.join(recalls)}")
    if zero_shot := evaluation.get("zero_shot"):
        shares = zero_shot.get("groups", {}).items()
        groups = "".join(f", {name} {value:.1%}" for name, value in shares)
        say(
            console,
            f"  zero-shot: {zero_shot['macro']:.1%} mean per class{groups}"
            f" (chance {zero_shot['chance']:.1%})",
        )
    if error := evaluation.get("error"):
        say(console, f"  [yellow]warning[/yellow]: not evaluated: {escape(error)}")
