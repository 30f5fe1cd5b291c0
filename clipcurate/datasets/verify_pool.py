"""Deciding every pair of the pool again: proof of every drop."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from clipcurate.balancing import Cut
from clipcurate.datasets import manifest as manifests
from clipcurate.datasets.dedup_files import duplicates_again
from clipcurate.datasets.grouping_files import Pieces, ScoredAgain, scored_again
from clipcurate.datasets.manifest import Manifest
from clipcurate.datasets.match_index import MatchIndex, index_batches
from clipcurate.datasets.outcomes import Totals, kept_mask, totals_of
from clipcurate.datasets.request import EmissionRequest
from clipcurate.datasets.run_record import FrozenRun
from clipcurate.datasets.verify_figures import check
from clipcurate.hashing import halves_to_hex, hash_pairs
from clipcurate.languages import MatcherFor, Router
from clipcurate.pools import Slice

Progress = Callable[[str], None]


def check_drops(
    url: str,
    manifest: Manifest,
    run: FrozenRun,
    matcher_for: MatcherFor,
    progress: Progress,
) -> None:
    """Decide every pair of the pool again: counts, totals, and the pairs kept, in order.

    Args:
        url: the dataset's folder.
        manifest: its manifest.
        run: the run that it is from.
        matcher_for: gives a language's matcher.
        progress: told what is being checked.

    Raises:
        DatasetError: something does not hold; the message says what.
    """
    check(
        run.record.run_id == manifest.identity["run"]["id"], f"{run.folder}: another run's folder"
    )
    request, frozen = EmissionRequest.from_identity(manifest.identity), run.counts()
    cuts = {name: Cut.from_json(cut) for name, cut in manifest.cuts.items()}
    kept_rows = _kept_rows(url, manifest)
    recounted = {name: np.zeros_like(counts) for name, counts in frozen.items()}
    totals = Totals()

    def pieces() -> Iterator[tuple[Sequence[Slice], MatchIndex]]:
        return (([piece], index) for _, piece, index in _pool_again(run, matcher_for, progress))

    with scored_again(run.plan(), pieces, request, frozen, {}) as again:
        cuts = _with_places(cuts, again, pieces)
        for number, (task, _, index) in enumerate(_pool_again(run, matcher_for, progress)):
            if run.is_counted(task):
                index.add_to(recounted)
            scored = again.load(number, index)
            kept = kept_mask(request.kind, cuts, scored)
            totals += totals_of(scored, kept)
            keys = halves_to_hex(index.coin_keys[kept]).to_pylist()
            wanted = zip(keys, scored.critical[kept].tolist(), strict=True)
            same = [a == b for a, b in zip(wanted, kept_rows, strict=False)]
            check(all(same) and len(same) == kept.sum(), f"task {task}: other pairs are kept")
    check(next(kept_rows, None) is None, "the dataset holds pairs that the pool does not")
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


def _with_places(cuts: dict[str, Cut], again: ScoredAgain, pieces: Pieces) -> dict[str, Cut]:
    """Return the cuts with the place in the pool of the last pair kept, where only its uid is told.

    That is so in a subset, whose dataset has no shards and rows.
    """
    repeats = [cut.repeats for cut in cuts.values() if cut.repeats is not None]
    if not repeats:
        return cuts
    found: list[bytes] = []
    for number, (_, index) in enumerate(pieces()):
        critical, ranks = again.load(number, index).critical, index.ranks
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


def _kept_rows(url: str, manifest: Manifest) -> Iterator[tuple[str, float]]:
    """Yield the rows' coin keys, which stand for uid and text, and critical t."""
    for table in manifests.read_pairs(url, manifest, ["uid", "text", "critical_t"]):
        keys = halves_to_hex(hash_pairs(table["uid"], table["text"])).to_pylist()
        yield from zip(keys, table["critical_t"].to_pylist(), strict=True)


def _pool_again(
    run: FrozenRun, matcher_for: MatcherFor, progress: Progress
) -> Iterator[tuple[int, Slice, MatchIndex]]:
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
                yield task, piece, MatchIndex.concatenate([MatchIndex.empty(), *batches])
