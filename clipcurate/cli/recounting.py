"""`clipcurate recount`: counts, held against the match indexes that are the truth behind them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from clipcurate import storage
from clipcurate.cli import options as opt
from clipcurate.cli.progress import say
from clipcurate.cli.runs import full_id
from clipcurate.datasets.match_index import MatchIndex
from clipcurate.datasets.recount import Difference, compare
from clipcurate.datasets.recount import recount as add_up
from clipcurate.datasets.run_record import FrozenRun
from clipcurate.errors import ConflictError, DatasetError
from clipcurate.metadata import Metadata
from clipcurate.rpc.clients import CounterClient, LedgerClient, LiveCounts, hash_of_tasks
from clipcurate.rpc.references import read
from clipcurate.rpc.settings import SecuritySettings
from clipcurate.rpc.v1 import ledger_pb2 as pb

ATTEMPTS = 10
"""How often a moment is looked for at which no task is half counted."""
FINISHED = (pb.TASK_STATE_DONE, pb.TASK_STATE_QUARANTINED)

console = Console(stderr=True)
EntriesOf = Callable[[str], Sequence[str]]
"""Returns the entries of a metadata language."""


@dataclass(frozen=True)
class Comparison:
    """Counts and their recount.

    Attributes:
        run: the run's id.
        frozen: whether the counts are a frozen snapshot's, not Redis's.
        tasks: counted tasks, whose indexes were added up.
        wrong_marks: (task, range) marks in Redis that are not those of the counted tasks.
        languages: one per metadata language.
    """

    run: str
    frozen: bool
    tasks: int
    wrong_marks: int
    languages: list[Difference]

    @property
    def differs(self) -> bool:
        """Whether anything is not as the indexes have it."""
        return bool(self.wrong_marks or any(one.different for one in self.languages))


def recount(
    run: Annotated[
        str,
        typer.Argument(help="The beginning of a run's id, or the folder of a frozen run."),
    ],
    server: opt.Server = opt.DEFAULT_SERVER,
    repair: Annotated[
        bool, typer.Option("--repair", help="Put the recount in place of Redis's counts.")
    ] = False,
    largest: Annotated[
        int, typer.Option(min=0, help="Name so many entries that differ most, per language.")
    ] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Rebuild a run's counts from its match indexes; exit status 1 if they differ.

    A folder is read without any service. A frozen snapshot is never repaired.
    """
    if storage.exists(run):
        _judge_frozen(FrozenRun.open(run), largest, as_json)
        return
    security = SecuritySettings()
    with LedgerClient(server, security) as ledger, CounterClient(server, security) as counter:
        found = ledger.get_run(full_id(ledger, run))
        if record := record_ref(found, ledger).url:
            _judge_frozen(FrozenRun.open(record), largest, as_json)
            return
        counted, live = _at_rest(found.run_id, ledger, counter)
        with console.status(f"adding up {len(counted):,} match indexes"):
            sizes = {ref.language: ref.num_entries for ref in found.spec.metadata}
            counts = add_up(sizes, (MatchIndex.from_bytes(read(task)) for task in counted.values()))
        wrong = sum(check.wrong_marks for check in live.checks)
        languages = compare(live.counts, counts, largest)
        comparison = Comparison(found.run_id, False, len(counted), wrong, languages)
        _show(comparison, _stored_entries(found.spec), as_json)
        if comparison.differs and not repair:
            raise typer.Exit(1)
        if comparison.differs:
            left = counter.replace_counts(found.run_id, counts, list(counted))
            _report_repair(found.run_id, left)


def record_ref(run: pb.Run, ledger: LedgerClient) -> pb.ObjectRef:
    """Return the record of a frozen run; an empty reference where it has none yet."""
    if not run.frozen_early:
        return run.frozen.record
    sealing = ledger.list_tasks(run.run_id, pb.STAGE_SEAL)
    return next((task.result.seal.record for task in sealing), pb.ObjectRef())


def _at_rest(
    run_id: str, ledger: LedgerClient, counter: CounterClient
) -> tuple[dict[int, pb.ObjectRef], LiveCounts]:
    """Return the counted tasks' indexes, and the counts when exactly those tasks were in them.

    Raises:
        ConflictError: at every look some open task was half counted.
    """
    for _ in range(ATTEMPTS):
        records = list(ledger.list_tasks(run_id, pb.STAGE_MATCH))
        counted = {
            record.task.index: record.result.match.index
            for record in records
            if record.state == pb.TASK_STATE_DONE
        }
        live = counter.get_counts(run_id)
        finished = all(record.state in FINISHED for record in records)
        half_counted = not finished and any(check.early_marks for check in live.checks)
        if live.counted_hash == hash_of_tasks(list(counted)) and not half_counted:
            return counted, live
    raise ConflictError(
        f"run {run_id}: open match tasks are half counted, so its counts are compared when they "
        "are finished (`clipcurate watch` shows when; `retry` takes up a cancelled or blocked run)"
    )


def _judge_frozen(frozen: FrozenRun, largest: int, as_json: bool) -> None:
    """Show how a snapshot differs from its indexes. Raises DatasetError if it does."""
    with console.status("adding up the match indexes"):
        languages = compare(frozen.raw_counts(), frozen.recount(), largest)
    tasks = len(frozen.counted())
    comparison = Comparison(frozen.record.run_id, True, tasks, 0, languages)
    _show(comparison, lambda name: frozen.metadata(name).entries, as_json)
    if comparison.differs:
        raise DatasetError(
            f"{frozen.folder}: the frozen counts are not those of the match indexes: its files "
            "were changed. Datasets stand on them, so nothing is repaired: restore the files, or "
            "run again into another output"
        )


def _report_repair(run_id: str, left: int) -> None:
    if left:
        raise ConflictError(
            f"run {run_id}: {left} ranges were left as they are, since tasks were being added to "
            "them; repair again when they are finished"
        )
    say(console, f"{run_id}: the counts are those of the match indexes now")


def _stored_entries(spec: pb.RunSpec) -> EntriesOf:
    objects = {ref.language: ref.object for ref in spec.metadata}
    return lambda name: Metadata.from_bytes(read(objects[name])).entries


def _show(found: Comparison, entries_of: EntriesOf, as_json: bool) -> None:
    named = [(one, entries_of(one.language)) for one in found.languages if one.different]
    if as_json:
        largest = {one.language: _named(one, entries) for one, entries in named}
        languages = [asdict(d) | {"largest": largest.get(d.language, [])} for d in found.languages]
        print(json.dumps(asdict(found) | {"languages": languages}, ensure_ascii=False))
        return
    title = f"{'Frozen' if found.frozen else 'Live'} counts against {found.tasks:,} match indexes"
    table = Table("language", "entries", "different", "Σ counts", "Σ recounted", title=title)
    for one in found.languages:
        figures = (one.entries, one.different, one.found_sum, one.recounted_sum)
        table.add_row(one.language, *(f"{figure:,}" for figure in figures))
    Console().print(table)
    for one, entries in named:
        Console().print(_largest(one, entries))
    if found.wrong_marks:
        say(console, f"{found.wrong_marks:,} marks of tasks are missing or wrong")
    if not found.differs:
        say(console, "no difference")


def _named(one: Difference, entries: Sequence[str]) -> list[dict[str, str | int]]:
    return [
        {"id": entry_id, "entry": entries[entry_id], "count": count, "recounted": recounted}
        for entry_id, count, recounted in one.largest
    ]


def _largest(one: Difference, entries: Sequence[str]) -> Table:
    table = Table("entry", "count", "recounted", title=f"Largest differences, {one.language}")
    for entry_id, count, recounted in one.largest:
        table.add_row(repr(entries[entry_id]), f"{count:,}", f"{recounted:,}")
    return table
