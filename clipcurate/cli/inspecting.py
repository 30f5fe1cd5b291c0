"""Verbs that look: `match`, `plan`, `verify`, `metadata info`."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Annotated

import pyarrow as pa
import typer
from rich.console import Console
from rich.table import Table

from clipcurate import metadata as metadata_files
from clipcurate.balancing import Cut
from clipcurate.balancing.sizes import SizeEstimate, estimate, top_entries
from clipcurate.cli import options as opt
from clipcurate.datasets.emission import resolve_cuts
from clipcurate.datasets.outcomes import Scored, kept_mask, law_of_size, score
from clipcurate.datasets.request import EmissionRequest
from clipcurate.datasets.run_record import FrozenRun
from clipcurate.datasets.verify import verify_dataset
from clipcurate.errors import InvalidInputError
from clipcurate.matching import ENGINES, RULES, Matcher, Matches
from clipcurate.metadata import ALL
from clipcurate.rpc.clients import MatcherClient
from clipcurate.rpc.settings import SecuritySettings

BATCH_LINES = 4096
BATCH_BYTES = 1 << 20
TOP_ENTRIES = 20

console = Console(stderr=True)


def match(
    metadata: Annotated[
        str, typer.Option("--metadata", help="Entries; needless with --server.")
    ] = "",
    server: Annotated[str, typer.Option("--server", help="Address of a matcher.")] = "",
    fingerprint: Annotated[str, typer.Option(help="Which of the server's metadata.")] = "",
    rule: opt.Rule = "metaclip1",
    engine: opt.Engine = "token-trie",
    dedupe: opt.Dedupe = False,
) -> None:
    """Read texts from stdin, a line each; write a JSON line of hits for each to stdout."""
    if bool(metadata) == bool(server):
        raise InvalidInputError("give either --metadata FILE or --server ADDRESS")
    if server:
        if dedupe or (rule, engine) != (next(iter(RULES)), next(iter(ENGINES))):
            raise InvalidInputError("--rule, --engine and --dedupe are the server's to choose")
        with MatcherClient(server, SecuritySettings()) as client:
            for texts in _batches():
                matches, names = client.match_batch(texts, fingerprint, include_entries=True)
                _print_hits(texts, matches, names)
        return
    matcher = Matcher.build(metadata_files.load(metadata, dedupe=dedupe).entries, rule, engine)
    for texts in _batches():
        matches = matcher.match(pa.array(texts, pa.large_string()))
        _print_hits(texts, matches, matcher.entries.take(pa.array(matches.entry_ids)).to_pylist())


def _batches() -> Iterator[list[str]]:
    """Yield stdin's lines in lists of bounded length and size; only the line end is cut."""
    batch: list[str] = []
    size = 0
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            text = line.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise InvalidInputError(f"stdin, line {number}: not UTF-8 ({error.reason})") from error
        if batch and (len(batch) == BATCH_LINES or size + len(line) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(line)
    if batch:
        yield batch


def _print_hits(texts: list[str], matches: Matches, names: list[str]) -> None:
    """Print one JSON line per text; `names` are the entries of all hits in order."""
    for row, text in enumerate(texts):
        first, last = matches.row_offsets[row], matches.row_offsets[row + 1]
        ids = matches.entry_ids[first:last].tolist()
        hits = [{"id": i, "entry": name} for i, name in zip(ids, names[first:last], strict=True)]
        print(json.dumps({"text": text, "entries": hits}, ensure_ascii=False))


def plan(
    run: Annotated[str, typer.Argument(help="A run's folder, or an output folder of one run.")],
    t: opt.Threshold = None,
    size: opt.Size = None,
    tail_share: opt.TailShare = None,
    seed: opt.Seed = 0,
    round: opt.Round = 0,  # noqa: A002 - the method's own word
    semantics: opt.TextSemantics = "pair",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a threshold, size or tail share yields, from frozen counts, before emitting.

    `clipcurate run --emit none` counts without emitting anything.
    """
    targets = {"t": t, "size": size, "tail_share": tail_share}
    request = opt.emission_request("balanced", semantics, seed=seed, round=round, **targets)
    frozen = FrozenRun.open(run)
    counts = frozen.counts()
    scored = _Scores(frozen, request)
    cuts = resolve_cuts(request, counts, scored)
    for name, cut in cuts.items():
        laws = (law_of_size(i, counts, {name: cut}, request.semantics) for i in frozen.indexes())
        found = estimate(counts[name], laws, cut.t)
        exact = sum(_kept(name, cut, task) for task in scored)
        if as_json:
            print(json.dumps({"language": name, "seed": seed, "size": exact, **vars(found)}))
        else:
            _show_estimate(name, found, exact, seed)
            _show_top(top_entries(counts[name], frozen.metadata(name).entries, TOP_ENTRIES), cut.t)


class _Scores:
    """The scored tasks of a frozen run, computed again at every iteration."""

    def __init__(self, frozen: FrozenRun, request: EmissionRequest) -> None:
        self._frozen, self._request = frozen, request

    def __iter__(self) -> Iterator[Scored]:
        counts = self._frozen.counts()
        for index in self._frozen.indexes():
            yield Scored(index, score(index, counts, self._request))


def _kept(language: str, cut: Cut, scored: Scored) -> int:
    """Count the pairs of a language that a cut keeps."""
    return int(kept_mask("balanced", {language: cut}, scored).sum())


def _show_estimate(language: str, found: SizeEstimate, exact: int, seed: int) -> None:
    title = "Balancing" if language == ALL else f"Balancing {language}"
    table = Table("", "", show_header=False, title=title)
    rows = {
        "t": f"{found.t:,.6g}",
        "tail share (counts < t)": f"{found.tail_share:.4%}",
        "expected size": f"{found.expected:,.1f} ± {found.deviation:,.1f}",
        f"size with seed {seed}": f"{exact:,}",
        "head entries (count > t)": f"{found.head_entries:,}",
        "tail entries (0 < count ≤ t)": f"{found.tail_entries:,}",
        "entries without texts": f"{found.empty_entries:,}",
        "counts in the head": f"{found.head_count:,}",
        "Σ min(count, t)": f"{found.slots:,.0f}",
    }
    for label, value in rows.items():
        table.add_row(label, value)
    Console().print(table)


def _show_top(top: list[tuple[str, int]], t: float) -> None:
    table = Table("entry", "count", "keep probability", title="Most frequent entries")
    for entry, count in top:
        table.add_row(repr(entry), f"{count:,}", f"{min(1.0, t / count) if count else 1.0:.4g}")
    Console().print(table)


def verify(
    dataset: Annotated[str, typer.Argument(help="A dataset's folder.")],
    run: Annotated[
        str, typer.Option("--run", help="The run's folder: check every drop against the pool too.")
    ] = "",
) -> None:
    """Prove a dataset: file hashes, totals, every kept row; with --run also every drop."""
    with console.status("verifying") as status:
        manifest = verify_dataset(dataset, run, status.update)
    parts = ["files", "totals", "counts", "uids", f"{manifest.totals.kept:,} kept rows"]
    if run:
        parts.append(f"all {manifest.totals.pairs:,} pairs of the pool")
    console.print(f"[green]ok[/green]: {', '.join(parts)}", highlight=False)
    print(manifest.dataset_hash)


def metadata_info(
    file: Annotated[str, typer.Argument(help="JSON list, text lines or parquet; also .gz.")],
    dedupe: opt.Dedupe = False,
) -> None:
    """Describe a metadata file: number of entries, fingerprint, words per entry."""
    found = metadata_files.load(file, dedupe=dedupe)
    words = Counter(entry.count(" ") + 1 for entry in found.entries)
    table = Table("", "", show_header=False)
    table.add_row("entries", f"{len(found.entries):,}")
    table.add_row("fingerprint", found.fingerprint)
    table.add_row("UTF-8 bytes", f"{sum(len(entry.encode()) for entry in found.entries):,}")
    for number in sorted(words):
        table.add_row(f"entries of {number} word{'s' * (number > 1)}", f"{words[number]:,}")
    Console().print(table)
