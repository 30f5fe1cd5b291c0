"""`clipcurate plan`: what a cut would yield, from frozen counts, before anything is emitted."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from clipcurate.balancing.sizes import SizeEstimate, top_entries
from clipcurate.cli import options as opt
from clipcurate.cli.progress import warn_of_zeros
from clipcurate.cli.wanted import Target, spread
from clipcurate.datasets.cuts import resolve_cuts
from clipcurate.datasets.forecast import Forecast, forecast
from clipcurate.datasets.grouping_files import Load, scored_again
from clipcurate.datasets.outcomes import Scored
from clipcurate.datasets.request import EmissionRequest, require_groupable, require_no_whole
from clipcurate.datasets.run_record import FrozenRun
from clipcurate.errors import InvalidInputError

TOP_ENTRIES = 20
WIDTH = 150
"""A table of languages is this wide also where no terminal says how wide it is."""
Top = dict[str, list[tuple[str, int]]]
"""The most frequent entries and their counts, per metadata language."""


@spread
def plan(
    run: Annotated[str, typer.Argument(help="A run's folder, or an output folder of one run.")],
    *,
    target: Target,
    seed: opt.Seed = 0,
    round: opt.Round = 0,  # noqa: A002 - the method's own word
    semantics: opt.TextSemantics = "pair",
    group: opt.Group = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a line per language.")] = (
        False
    ),
) -> None:
    """Say what a threshold, size or tail share yields, from frozen counts, before emitting.

    `clipcurate run --emit none` counts without emitting anything. With --group, the pool is read.
    """
    request = target.request("balanced", semantics, group, seed=seed, round=round)
    frozen = FrozenRun.open(run)
    counts = frozen.counts()
    if request.group:
        _require_foreseeable(request, frozen)
    top: Top = {
        name: top_entries(array, frozen.metadata(name).entries, TOP_ENTRIES)
        for name, array in counts.items()
    }
    cuts = resolve_cuts(request, counts, ()) if request.group else {}
    with scored_again(frozen.plan(), frozen.pieces, request, counts, cuts) as again:
        found = forecast(request, counts, _Scores(frozen, again.load), again.law)
    warn_of_zeros({name: cut.t for name, cut in found.cuts.items()}, Console(stderr=True))
    if as_json:
        _print_json(found, top, seed)
        return
    if len(found.languages) == 1:
        _show_one(found, seed)
    else:
        _show_languages(found, seed)
    _show_top(found, top)


@dataclass(frozen=True)
class _Scores:
    """The scored tasks of a frozen run, at every iteration."""

    frozen: FrozenRun
    load: Load

    def __iter__(self) -> Iterator[Scored]:
        return (self.load(task, index) for task, index in enumerate(self.frozen.indexes()))


def _require_foreseeable(request: EmissionRequest, frozen: FrozenRun) -> None:
    """Refuse groups that cannot be emitted, or told here. Raises InvalidInputError."""
    plan = frozen.plan()
    require_groupable([request], plan.dedup.by if plan.dedup else "")
    projection = frozen.projection()
    if projection is not None and projection.tasks is None:  # an open pool, not converged counts
        require_no_whole([request], dedup=False)
    if len(frozen.record.metadata) > 1:
        raise InvalidInputError(
            "--group is foretold with metadata of one language only, since images have texts of "
            "several; emit the dataset, its manifest has the expected size"
        )


def _print_json(found: Forecast, top: Top, seed: int) -> None:
    for name, one in found.languages.items():
        value: dict[str, Any] = {"language": name, "seed": seed, "size": found.sizes[name]}
        value |= vars(one) | {"top": [{"entry": e, "count": c} for e, c in top[name]]}
        print(json.dumps(value, ensure_ascii=False))


def _figures(one: SizeEstimate, size: int, seed: int) -> dict[str, str]:
    """Return what is said of a language, by its heading."""
    return {
        "t": f"{one.t:,.6g}",
        "tail share (counts < t)": f"{one.tail_share:.4%}",
        "expected size": f"{one.expected:,.1f} ± {one.deviation:,.1f}",
        f"size with seed {seed}": f"{size:,}",
        "head entries (count > t)": f"{one.head_entries:,}",
        "tail entries (0 < count ≤ t)": f"{one.tail_entries:,}",
        "entries without texts": f"{one.empty_entries:,}",
        "counts in the head": f"{one.head_count:,}",
        "Σ min(count, t)": f"{one.slots:,.0f}",
    }


def _show_one(found: Forecast, seed: int) -> None:
    table = Table("", "", show_header=False, title="Balancing")
    ((name, one),) = found.languages.items()
    for label, value in _figures(one, found.sizes[name], seed).items():
        table.add_row(label, value)
    Console().print(table)


def _show_languages(found: Forecast, seed: int) -> None:
    rows = {n: _figures(one, found.sizes[n], seed) for n, one in found.languages.items()}
    headings = list(next(iter(rows.values())))
    table = Table("language", *headings, title="Balancing, per metadata language")
    for name, figures in rows.items():
        table.add_row(name, *figures.values())
    table.add_section()
    whole = {
        "expected size": f"{found.expected:,.1f} ± {found.deviation:,.1f}",
        f"size with seed {seed}": f"{found.size:,}",
    }
    table.add_row("all", *(whole.get(heading, "") for heading in headings))
    wide = Console()
    wide.width = max(wide.width, WIDTH)
    wide.print(table)


def _show_top(found: Forecast, top: Top) -> None:
    """Show the most frequent entries of all languages together."""
    table = Table("entry", "count", "keep probability", title="Most frequent entries")
    many = len(top) > 1
    if many:
        table.add_column("language")
    rows = [(count, entry, name) for name, entries in top.items() for entry, count in entries]
    for count, entry, name in sorted(rows, key=lambda row: -row[0])[:TOP_ENTRIES]:
        share = min(1.0, found.cuts[name].t / count) if count else 1.0
        table.add_row(repr(entry), f"{count:,}", f"{share:.4g}", *([name] if many else []))
    Console().print(table)
