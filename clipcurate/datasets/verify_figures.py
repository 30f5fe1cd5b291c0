"""Holding a dataset's files and figures against its manifest."""

import json
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from clipcurate import storage
from clipcurate.balancing import Cut, tail_share_of
from clipcurate.datasets import snapshot
from clipcurate.datasets.cuts import base_thresholds, resolve_cuts, spread
from clipcurate.datasets.manifest import FileRecord, Manifest
from clipcurate.datasets.publishing import ENTRY_COUNTS, UIDS, counts_name, sorted_uids
from clipcurate.datasets.request import EmissionRequest
from clipcurate.datasets.snapshot import Counts
from clipcurate.errors import DatasetError
from clipcurate.hashing import hash_stream
from clipcurate.metadata import Metadata

Entries = dict[str, tuple[str, ...]]
"""The entries per metadata language."""


def check(holds: bool, message: str) -> None:
    """Raise DatasetError unless something holds."""
    if not holds:
        raise DatasetError(message)


def check_file(url: str, file: FileRecord) -> None:
    """Hold a file's size and hash against the manifest. Raises DatasetError."""
    with storage.open_read(storage.join(url, file.name)) as source:
        found, size = hash_stream(source), source.tell()
    check(size == file.size, f"{file.name}: {size} bytes, the manifest says {file.size}")
    check(found == file.hash, f"{file.name}: its bytes are not what was written")


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
    if (sealed := manifest.identity.get("quarantined")) is not None:
        check(sealed == quarantined, "quarantined inputs are not those of the identity")
        quarantined = []
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
