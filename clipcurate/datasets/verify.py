"""Proving a dataset: every file, every kept row, and with the run's folder every drop."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from clipcurate import storage
from clipcurate.balancing import Cut, Groups, Semantics, critical_t, tail_share_of
from clipcurate.datasets import blocks, snapshot
from clipcurate.datasets import manifest as manifests
from clipcurate.datasets.content import content_hash
from clipcurate.datasets.cuts import base_thresholds, resolve_cuts, spread
from clipcurate.datasets.dedup_files import duplicates_again
from clipcurate.datasets.manifest import FileRecord, Manifest, read_part
from clipcurate.datasets.match_index import MatchIndex, from_lists, index_batches
from clipcurate.datasets.outcomes import Scored, Totals, kept_mask, score, totals_of
from clipcurate.datasets.publishing import ENTRY_COUNTS, UIDS, counts_name, sorted_uids
from clipcurate.datasets.request import EmissionRequest
from clipcurate.datasets.run_record import FrozenRun
from clipcurate.datasets.snapshot import Counts
from clipcurate.errors import DatasetError
from clipcurate.hashing import CHUNK, halves_to_hex, hash_json, hash_pairs
from clipcurate.languages import (
    DEFAULT_BYTES,
    ByteCache,
    MatcherFor,
    Router,
    names_of,
    rows_by_name,
)
from clipcurate.matching import Matcher, Matches
from clipcurate.metadata import Metadata

Progress = Callable[[str], None]
Entries = dict[str, tuple[str, ...]]


def verify_dataset(url: str, run_url: str = "", progress: Progress = lambda _: None) -> Manifest:
    """Check a dataset against its manifest, row by row; return the manifest.

    Files: sizes, hashes, rows. Figures: totals add up, uids agree with the parts, entries, counts
    and quarantine with the identity. Kept rows: matched, tossed and compared with the cut again.
    With the run's folder: every pair of the pool is read and decided again, so every drop is
    checked too, and that kept texts are the pool's.

    Args:
        url: the dataset's folder.
        run_url: the run's folder (needs its pool); empty to leave drops unchecked.
        progress: told what is being checked.

    Raises:
        DatasetError: something does not hold; the message says what.
        NotFoundError: no dataset, no run, or a file is missing.
    """
    manifest = manifests.load(url)
    check(hash_json(manifest.identity) == manifest.emission_id, "the emission id is not its hash")
    for file in manifest.files:
        progress(f"hashing {file.name}")
        check_file(url, file)
    progress("totals, counts and uids")
    counts, entries = check_figures(url, manifest)
    if manifest.of_role("images"):
        blocks.load(url, manifest)
    matcher_for = _matchers(entries, str(manifest.identity["run"]["rule"]))
    for file in manifest.of_role("pairs"):
        progress(f"deciding the rows of {file.name} again")
        _check_rows(read_part(url, file), file, manifest, matcher_for, counts)
    if run_url:
        _check_drops(url, manifest, FrozenRun.open(run_url), matcher_for, progress)
    return manifest


def check(holds: bool, message: str) -> None:
    """Raise DatasetError unless something holds."""
    if not holds:
        raise DatasetError(message)


def _matchers(entries: Entries, rule: str) -> MatcherFor:
    """Return what builds a language's matcher when it is first asked for."""
    cache: ByteCache[str, Matcher] = ByteCache(DEFAULT_BYTES)

    def matcher_for(name: str) -> Matcher | None:
        if name not in entries:
            return None
        return cache.get(name, lambda: Matcher.build(entries[name], rule))

    return matcher_for


def check_file(url: str, file: FileRecord) -> None:
    """Hold a file's size and hash against the manifest. Raises DatasetError."""
    state, size = xxhash.xxh3_128(), 0
    with storage.open_read(storage.join(url, file.name)) as source:
        while chunk := source.read(CHUNK):
            state.update(chunk)
            size += len(chunk)
    check(size == file.size, f"{file.name}: {size} bytes, the manifest says {file.size}")
    check(state.hexdigest() == file.hash, f"{file.name}: its bytes are not what was written")


def check_figures(url: str, manifest: Manifest) -> tuple[dict[str, npt.NDArray[np.int64]], Entries]:
    """Check the small files against each other and the totals; return counts and entries."""
    pairs = manifest.of_role("pairs")
    kept = sum(file.rows for file in pairs)
    check(kept == manifest.totals.kept, f"{kept} rows, but {manifest.totals.kept} pairs are kept")
    size = manifest.identity["target"].get("size", kept)
    check(kept == size, f"{kept} rows, but exactly {size} were asked for")
    with storage.open_read(storage.join(url, UIDS)) as source:
        uids = np.load(source)
    check(np.array_equal(uids, sorted_uids(url, pairs)), f"{UIDS} does not list the parts' uids")
    repeated = len(uids) - len(np.unique(uids))
    check(repeated == manifest.repeated_uids, f"{repeated} uids are repeated")
    languages = list(manifest.identity["run"]["metadata"])
    objects = json.loads(storage.read_bytes(storage.join(url, ENTRY_COUNTS)))
    by_language = {languages[0]: objects} if len(languages) == 1 else objects
    counts = {}
    for name in languages:
        with storage.open_read(storage.join(url, counts_name(name))) as source:
            counts[name] = np.load(source)
        same = np.array_equal(counts[name], np.array(list(by_language[name].values()), np.int64))
        check(same, f"{counts_name(name)} and {ENTRY_COUNTS} differ")
    entries = {name: tuple(by_language[name]) for name in languages}
    _check_identity(manifest, counts, entries)
    return counts, entries


def _check_identity(manifest: Manifest, counts: Counts, entries: Entries) -> None:
    """Check what the identity names by its hash: entries, counts, and what was quarantined."""
    run = manifest.identity["run"]
    for name, fingerprint in run["metadata"].items():
        same = Metadata(entries[name]).fingerprint == fingerprint
        check(same, f"{ENTRY_COUNTS}, language {name}: other entries than the identity names")
    quarantined = [unknown["inputs"] for unknown in manifest.unknown_rows]
    projection = manifest.identity.get("projected")
    expected = snapshot.snapshot_id(run["id"], quarantined, counts, projection)
    check(
        expected == manifest.identity["snapshot"],
        "counts or quarantined inputs are not those of the identity's snapshot",
    )
    shares = {n: tail_share_of(counts[n], cut["t"]) for n, cut in manifest.cuts.items()}
    check(shares == manifest.tail_shares, f"the tail shares are {shares}")
    request = EmissionRequest.from_identity(manifest.identity)
    found = {name: Cut.from_json(cut) for name, cut in manifest.cuts.items()}
    if request.size is None:
        cuts = resolve_cuts(request, counts, ())
    else:
        cuts = spread(_common(found), base_thresholds(request, counts))
    check(cuts == found, f"the target gives the cuts {cuts}")


def _common(cuts: Mapping[str, Cut]) -> Cut:
    """Return the cut of critical t / base that is behind all languages' cuts of one size."""
    ratio = max(cut.t / cut.base for cut in cuts.values())
    tied = [cut for cut in cuts.values() if cut.last is not None]
    return Cut(ratio, tied[0].last, repeats=tied[0].repeats) if tied else Cut(ratio)


def _check_rows(
    table: pa.Table,
    file: FileRecord,
    manifest: Manifest,
    matcher_for: MatcherFor,
    counts: dict[str, npt.NDArray[np.int64]],
) -> None:
    """Match every row of a part again, toss its coin again, and hold it against the cut."""
    check(content_hash(table) == file.content, f"{file.name}: its rows are not what was written")
    check(table.num_rows == file.rows, f"{file.name}: {table.num_rows} rows, not {file.rows}")
    request = EmissionRequest.from_identity(manifest.identity)
    languages = names_of(table["metadata_lang"])
    if request.kind != "raw":
        known = pc.is_in(languages, pa.array([*counts], pa.string())).to_numpy(False)
        _first_false(known, f"{file.name}: no metadata for its language", np.arange(len(known)))
    router = Router(matcher_for, lambda _: languages)
    own, stored = np.empty(table.num_rows), table["critical_t"].to_numpy()
    for name, rows in rows_by_name(languages).items():
        part = table.take(rows)
        matches = router.match(part["text"], languages.take(pa.array(rows)))
        _same_hits(matches, from_lists(part["entry_ids"]), f"{file.name}, language {name}")
        mine = counts.get(name, np.zeros(0, np.int64))
        own[rows] = critical_t(matches, mine, _coin_keys(part), request.seed, request.round)
        if request.kind == "matched":
            _first_false(np.isfinite(own[rows]), f"{file.name}: no entry matches", rows)
        if request.kind == "balanced":
            below = stored[rows] <= Cut.from_json(manifest.cuts[name]).t
            _first_false(below, f"{file.name}: critical t above the cut", rows)
    same = _agree(request.semantics, own, stored)
    _first_false(same, f"{file.name}: critical t differs", np.arange(len(same)))


def _agree(
    semantics: Semantics, own: npt.NDArray[np.float64], stored: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Say which rows have the critical t that their coins give.

    The texts of a record stand side by side and share the smallest one. Neighbours that share one
    by chance have the same smallest one too.
    """
    expected = Groups.of(stored).least(own) if semantics == "record" else own
    same: npt.NDArray[np.bool_] = expected == stored
    return same


def _same_hits(found: Matches, stored: Matches, where: str) -> None:
    lengths = found.hits_per_text == stored.hits_per_text
    _first_false(lengths, f"{where}: other entries match", np.arange(len(found)))
    check(np.array_equal(found.entry_ids, stored.entry_ids), f"{where}: other entries match")


def _first_false(holds: npt.NDArray[np.bool_], message: str, rows: npt.NDArray[np.int64]) -> None:
    if not holds.all():
        raise DatasetError(f"{message} (first at row {rows[int(np.argmin(holds))]})")


def _coin_keys(table: pa.Table) -> npt.NDArray[np.uint64]:
    return hash_pairs(table["uid"], table["text"])


def _check_drops(
    url: str,
    manifest: Manifest,
    run: FrozenRun,
    matcher_for: MatcherFor,
    progress: Progress,
) -> None:
    """Decide every pair of the pool again: counts, totals, and the pairs kept, in order."""
    check(
        run.record.run_id == manifest.identity["run"]["id"], f"{run.folder}: another run's folder"
    )
    request, frozen = EmissionRequest.from_identity(manifest.identity), run.counts()
    cuts = {name: Cut.from_json(cut) for name, cut in manifest.cuts.items()}
    cuts = _with_places(cuts, request, run)
    kept_keys = _kept_keys(url, manifest)
    recounted = {name: np.zeros_like(counts) for name, counts in frozen.items()}
    totals = Totals()
    for number, index in _pool_again(run, matcher_for, progress):
        index.add_to(recounted)
        scored = Scored(index, score(index, frozen, request))
        kept = kept_mask(request.kind, cuts, scored)
        totals += totals_of(scored, kept)
        keys = halves_to_hex(index.coin_keys[kept]).to_pylist()
        same = [a == b for a, b in zip(keys, kept_keys, strict=False)]
        check(all(same) and len(same) == kept.sum(), f"task {number}: other pairs are kept")
    check(next(kept_keys, None) is None, "the dataset holds pairs that the pool does not")
    check(totals == manifest.totals, f"the pool gives {totals}, the manifest {manifest.totals}")
    for name, counts in run.raw_counts().items():
        check(np.array_equal(counts, recounted[name]), f"language {name}: counts differ")
    _check_projection(run, manifest)


def _check_projection(run: FrozenRun, manifest: Manifest) -> None:
    """Project the run's counts again where the identity says that they were projected."""
    projection = run.projection()
    known = projection.identity() if projection else None
    same = known == manifest.identity.get("projected")
    check(same, "the counts were projected from others than the identity names")
    frozen = run.counts()
    for name, counts in (projection.counts if projection else {}).items():
        check(np.array_equal(counts, frozen[name]), f"language {name}: projected counts differ")


def _with_places(cuts: dict[str, Cut], request: EmissionRequest, run: FrozenRun) -> dict[str, Cut]:
    """Return the cuts with the place in the pool of the last pair kept, where only its uid is told.

    That is so in a subset, whose dataset has no shards and rows.
    """
    repeats = [cut.repeats for cut in cuts.values() if cut.repeats is not None]
    if not repeats:
        return cuts
    counts, found = run.counts(), list[bytes]()
    for index in run.indexes():
        critical, ranks = score(index, counts, request), index.ranks
        for name, rows in index.rows_by_language.items():
            if name in cuts:
                same = cuts[name].repeated(critical[rows], ranks[rows])
                found += [rank.tobytes() for rank in ranks[rows[same]]]
    check(len(found) >= repeats[0], f"the pool repeats the cut's last pair {len(found)} times")
    last = sorted(found)[repeats[0] - 1]
    return {
        name: replace(cut, last=last, repeats=None) if cut.last is not None else cut
        for name, cut in cuts.items()
    }


def _kept_keys(url: str, manifest: Manifest) -> Iterator[str]:
    """Yield the coin keys of the rows: they stand for uid and text."""
    for table in manifests.read_pairs(url, manifest, ["uid", "text"]):
        yield from halves_to_hex(_coin_keys(table)).to_pylist()


def _pool_again(
    run: FrozenRun, matcher_for: MatcherFor, progress: Progress
) -> Iterator[tuple[int, MatchIndex]]:
    """Read and match the run's pool again, slice by slice, without what is quarantined.

    No pool row spans slices, so all texts of an image are seen at once. Duplicates are found first.
    """
    plan = run.plan()
    router = Router.of(plan.languages, run.folder, matcher_for)
    readable = [task for task, stored in enumerate(run.record.indexes) if stored is not None]
    with duplicates_again(plan, readable, progress) as duplicates_of:
        for task in readable:
            duplicates = duplicates_of(task)
            for piece in plan.tasks[task].slices:
                progress(f"reading {plan.shards[piece.shard].name} again")
                batches = index_batches(plan, piece, router, duplicates)
                yield task, MatchIndex.concatenate([MatchIndex.empty(), *batches])
