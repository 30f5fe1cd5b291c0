"""Proving a dataset: every file, every kept row, and with the run's folder every drop."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clipcurate.balancing import Cut, Groups, Semantics, critical_t
from clipcurate.datasets import blocks
from clipcurate.datasets import manifest as manifests
from clipcurate.datasets.content import content_hash
from clipcurate.datasets.image_pairs import image_pairs
from clipcurate.datasets.manifest import FileRecord, Manifest, read_part
from clipcurate.datasets.match_index import from_lists
from clipcurate.datasets.request import EmissionRequest
from clipcurate.datasets.run_record import FrozenRun, record_name
from clipcurate.datasets.verify_figures import Entries, check, check_figures, check_file
from clipcurate.datasets.verify_pool import check_drops
from clipcurate.errors import DatasetError
from clipcurate.hashing import hash_json, hash_pairs
from clipcurate.languages import (
    DEFAULT_BYTES,
    ByteCache,
    MatcherFor,
    Router,
    names_of,
    rows_by_name,
)
from clipcurate.matching import Matcher, Matches

Progress = Callable[[str], None]


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
        for _ in image_pairs(url, manifest, []):
            pass
    matcher_for = _matchers(entries, str(manifest.identity["run"]["rule"]))
    shared = Shared()
    for file in manifest.of_role("pairs"):
        progress(f"deciding the rows of {file.name} again")
        _check_rows(read_part(url, file), file, manifest, matcher_for, counts, shared)
    check(not len(shared.waiting), "critical t differs: no text of an image has the one they share")
    if run_url:
        identity = manifest.identity
        name = record_name(identity["snapshot"], identity.get("quarantined"))
        check_drops(url, manifest, FrozenRun.open(run_url, name), matcher_for, progress)
    return manifest


def _matchers(entries: Entries, rule: str) -> MatcherFor:
    """Return what builds a language's matcher when it is first asked for."""
    cache: ByteCache[str, Matcher] = ByteCache(DEFAULT_BYTES)

    def matcher_for(name: str) -> Matcher | None:
        if name not in entries:
            return None
        return cache.get(name, lambda: Matcher.build(entries[name], rule))

    return matcher_for


def _check_rows(
    table: pa.Table,
    file: FileRecord,
    manifest: Manifest,
    matcher_for: MatcherFor,
    counts: dict[str, npt.NDArray[np.int64]],
    shared: "Shared",
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
    if request.group and request.semantics == "record":
        same = shared.add(own, stored)
    else:
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


@dataclass
class Shared:
    """Critical t that the texts of a record share, whose rows lie anywhere in the dataset.

    All matched texts of a record that is kept are there, so each such value is one's own.

    Attributes:
        waiting: values met so far that no text has had of its own, ascending.
        attained: the others.
    """

    waiting: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    attained: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def add(
        self, own: npt.NDArray[np.float64], stored: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.bool_]:
        """Take in the rows of a part; say which may have what they have, shape (n,)."""
        self.attained = np.union1d(self.attained, stored[own == stored])
        self.waiting = np.setdiff1d(np.union1d(self.waiting, stored), self.attained)
        possible: npt.NDArray[np.bool_] = own >= stored
        return possible


def _same_hits(found: Matches, stored: Matches, where: str) -> None:
    lengths = found.hits_per_text == stored.hits_per_text
    _first_false(lengths, f"{where}: other entries match", np.arange(len(found)))
    check(np.array_equal(found.entry_ids, stored.entry_ids), f"{where}: other entries match")


def _first_false(holds: npt.NDArray[np.bool_], message: str, rows: npt.NDArray[np.int64]) -> None:
    if not holds.all():
        raise DatasetError(f"{message} (first at row {rows[int(np.argmin(holds))]})")


def _coin_keys(table: pa.Table) -> npt.NDArray[np.uint64]:
    return hash_pairs(table["uid"], table["text"])
