"""The manifest: the file that makes a dataset exist and proves what it is."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from clipcurate import storage
from clipcurate.datasets.outcomes import Totals
from clipcurate.errors import ConflictError, DatasetError, NotFoundError
from clipcurate.hashing import hash_json
from clipcurate.parquet_files import read_table

NAME = "manifest.json"
FORMAT = 1


@dataclass(frozen=True)
class FileRecord:
    """One file of a dataset.

    Attributes:
        name: relative to the dataset's folder.
        role: pairs, images, image_blocks, uids, counts, entry_counts or card.
        size: in bytes.
        hash: xxh3-128 of its bytes.
        rows: pairs, samples or entries in it.
        part: number of its part, or None.
        content: content hash of its rows, for pairs.
        blocks: of a tar, until publishing has put them into `image_blocks.npy`: start, stop and
            samples of each.
    """

    name: str
    role: str
    size: int
    hash: str
    rows: int
    part: int | None = None
    content: str | None = None
    blocks: list[list[int]] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the record without what is absent."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Manifest:
    """What a dataset is.

    Attributes:
        identity: what determines the bytes; its hash is `emission_id`.
        emission_id: names the dataset.
        totals: the seven outcomes of the pairs read.
        cuts: per metadata language: t, and the last rank for exact sizes.
        tail_shares: per metadata language: share of all counts in entries with count < t.
        expected_size, size_deviation: mean and standard deviation of the size over seeds; the
            deviation takes every pair to have a coin of its own (repeated pairs share one).
        repeated_uids: kept pairs whose uid an earlier one has too.
        unknown_rows: inputs that could not be read, with reasons.
        files: every file, in order.
        provenance: paths, times, hosts, versions; not hashed.
    """

    identity: dict[str, Any]
    emission_id: str
    totals: Totals
    cuts: dict[str, dict[str, Any]]
    tail_shares: dict[str, float]
    expected_size: float
    size_deviation: float
    repeated_uids: int
    unknown_rows: list[dict[str, Any]]
    files: tuple[FileRecord, ...]
    provenance: dict[str, Any]

    @property
    def content_hash(self) -> str:
        """Hash of all rows in order, whatever wrote them."""
        return hash_json([file.content for file in self.files if file.role == "pairs"])

    @property
    def dataset_hash(self) -> str:
        """Hash of identity, totals, cut, rows and files: equal hashes, equal bytes."""
        return hash_json(
            {
                "identity": self.identity,
                "totals": asdict(self.totals),
                "cuts": self.cuts,
                "content": self.content_hash,
                "files": [file.to_json() for file in self.files],
            }
        )

    def of_role(self, role: str) -> list[FileRecord]:
        """Return the files of one role in order of part."""
        return [file for file in self.files if file.role == role]

    def to_bytes(self) -> bytes:
        """Return the manifest as JSON for people and machines."""
        value = {
            "format": FORMAT,
            "emission_id": self.emission_id,
            "dataset_hash": self.dataset_hash,
            "content_hash": self.content_hash,
            "pairs_read": self.totals.pairs,
            **{
                name: value
                for name, value in asdict(self).items()
                if name not in {"emission_id", "files"}
            },
            "files": [file.to_json() for file in self.files],
        }
        return json.dumps(value, indent=2, ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Manifest":
        """Read what `to_bytes` wrote. Raises DatasetError."""
        value = json.loads(content)
        if value.get("format") != FORMAT:
            raise DatasetError(f"manifest format {value.get('format')} is not {FORMAT}")
        names = set(cls.__dataclass_fields__) - {"totals", "files"}
        manifest = cls(
            totals=Totals(**value["totals"]),
            files=tuple(FileRecord(**file) for file in value["files"]),
            **{name: value[name] for name in names},
        )
        if value["dataset_hash"] != manifest.dataset_hash:
            raise DatasetError("the manifest's hash does not fit its content: it was edited")
        repeated = (value["content_hash"], value["pairs_read"])
        if repeated != (manifest.content_hash, manifest.totals.pairs):
            raise DatasetError("the manifest contradicts itself: it was edited")
        return manifest


def load(dataset_url: str) -> Manifest:
    """Read a dataset's manifest.

    Raises:
        NotFoundError: there is none, so there is no dataset.
        DatasetError: it is broken.
    """
    url = storage.join(dataset_url, NAME)
    try:
        return Manifest.from_bytes(storage.read_bytes(url))
    except NotFoundError as error:
        raise NotFoundError(f"{dataset_url}: no dataset here ({NAME} is missing)") from error
    except (ValueError, KeyError, TypeError, AttributeError, DatasetError) as error:
        raise DatasetError(f"{url}: {error}") from error


def is_published(dataset_url: str, manifest: Manifest) -> bool:
    """Say whether this very dataset stands there already.

    Raises:
        ConflictError: another one does, under the same id.
    """
    url = storage.join(dataset_url, NAME)
    if not storage.exists(url):
        return False
    if load(dataset_url).dataset_hash != manifest.dataset_hash:
        raise ConflictError(
            f"{url}: another dataset of the same identity stands here, written by another "
            "version; move it away and publish again"
        )
    return True


def publish(dataset_url: str, manifest: Manifest) -> None:
    """Write the manifest; publishing the same dataset again changes nothing. Raises ConflictError.

    The ledger's lease keeps two publishers apart; storage itself is not asked to.
    """
    if not is_published(dataset_url, manifest):
        storage.write_bytes(storage.join(dataset_url, NAME), manifest.to_bytes())


def read_part(dataset_url: str, file: FileRecord, columns: list[str] | None = None) -> pa.Table:
    """Read one parquet part."""
    with storage.open_read(storage.join(dataset_url, file.name)) as source:
        return read_table(source, columns)


def read_pairs(
    dataset_url: str, manifest: Manifest, columns: list[str] | None = None
) -> Iterator[pa.Table]:
    """Yield the dataset's parts in order."""
    for file in manifest.of_role("pairs"):
        yield read_part(dataset_url, file, columns)
