"""Verbs that look: `match`, `verify`, `metadata info`."""

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
from clipcurate.cli import options as opt
from clipcurate.datasets.verify import verify_dataset
from clipcurate.errors import InvalidInputError
from clipcurate.matching import ENGINES, RULES, Matcher, Matches
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
