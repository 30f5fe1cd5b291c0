"""Shards: the files of a pool, with what pins each of them."""

from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

Format = Literal["parquet", "jsonl", "csv", "tsv", "webdataset"]
Compression = Literal["", "gz", "zst"]

FORMATS: dict[str, Format] = {
    ".parquet": "parquet",
    ".parq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tar": "webdataset",
}
COMPRESSIONS: dict[str, Compression] = {".gz": "gz", ".zst": "zst"}
KNOWN = f"{', '.join(FORMATS)} (all but parquet also + .gz or .zst), .tgz"


@dataclass(frozen=True)
class Shard:
    """One file of a pool.

    Attributes:
        name: path relative to the pool's root.
        url: where the file lies now; an absolute path if local.
        format: how its records are written.
        compression: "gz", "zst", or "" for none (parquet compresses inside).
        size: bytes.
        pin: what its content was when the pool was planned: "etag:<etag>" or "xxh3:<hash>".
        modified: time of last change, "" where the file system does not tell.
        groups: rows of each parquet row group; None if the format has none or they are unreadable.
    """

    name: str
    url: str
    format: Format
    compression: Compression
    size: int
    pin: str
    modified: str
    groups: tuple[int, ...] | None

    def identity(self) -> dict[str, Any]:
        """Return what determines the shard's content, for hashing."""
        return {"name": self.name, "size": self.size, "pin": self.pin}

    def to_json(self) -> dict[str, Any]:
        """Return the shard as a JSON object; `from_json` is the inverse."""
        return asdict(self) | {"groups": None if self.groups is None else list(self.groups)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Shard":
        """Rebuild a shard from `to_json`."""
        groups = value["groups"]
        return cls(**(value | {"groups": None if groups is None else tuple(groups)}))

    def known_rows(self) -> int | None:
        """Return the number of rows where it is known without reading the shard."""
        if self.groups is not None:
            return sum(self.groups)
        is_plain_text = self.format in ("jsonl", "csv", "tsv") and not self.compression
        return 0 if is_plain_text and self.size == 0 else None


def format_of(name: str) -> tuple[Format, Compression] | None:
    """Tell format and compression from a file's name; None if unknown.

    Example: `format_of("a/00000.tar.gz") == ("webdataset", "gz")`.
    """
    path = PurePosixPath(name.lower())
    if path.suffix == ".tgz":
        return "webdataset", "gz"
    compression = COMPRESSIONS.get(path.suffix, "")
    if compression:
        path = path.with_suffix("")
    found = FORMATS.get(path.suffix)
    if found is None or (compression and found == "parquet"):
        return None
    return found, compression


def stem_of(name: str) -> str:
    """Return the path of a file of a known format without its extensions."""
    path = PurePosixPath(name)
    if path.suffix.lower() in COMPRESSIONS:
        path = path.with_suffix("")
    return str(path.with_suffix(""))
