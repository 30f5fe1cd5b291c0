"""The record of a frozen run: makes its folder readable without any service."""

import glob
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from clipcurate import storage
from clipcurate.datasets import snapshot
from clipcurate.datasets.match_index import MatchIndex
from clipcurate.datasets.recount import recount
from clipcurate.datasets.run_plan import RunPlan
from clipcurate.errors import InvalidInputError, NotFoundError
from clipcurate.hashing import canonical_json
from clipcurate.metadata import Metadata
from clipcurate.pools import Slice
from clipcurate.storage import StoredObject

PREFIX = "record"


def record_name(snapshot_id: str, quarantined: Sequence[Any] | None) -> str:
    """Return the name of a snapshot's record.

    Args:
        snapshot_id: of the snapshot.
        quarantined: inputs that could not be read, where the counts were frozen before that was
            known of all; None where the snapshot's id names them.
    """
    if quarantined is None:
        return snapshot_id
    return snapshot.sealed_id(snapshot_id, quarantined)


@dataclass(frozen=True)
class RunRecord:
    """Names of a run's objects, relative to the run's folder.

    Attributes:
        run_id: the run.
        snapshot_id: its frozen counts.
        rule: the matching rule.
        plan: the run plan.
        counts: the frozen counts.
        metadata: the entries per metadata language.
        indexes: the match index of every task; None where the task is quarantined.
    """

    run_id: str
    snapshot_id: str
    rule: str
    plan: StoredObject
    counts: StoredObject
    metadata: dict[str, StoredObject]
    indexes: list[StoredObject | None]

    def objects(self) -> list[StoredObject]:
        """Return all objects that the record names."""
        indexes = [stored for stored in self.indexes if stored]
        return [self.plan, self.counts, *self.metadata.values(), *indexes]

    def to_bytes(self) -> bytes:
        """Return the record as JSON."""
        return canonical_json(asdict(self))

    @classmethod
    def from_bytes(cls, content: bytes) -> "RunRecord":
        """Read what `to_bytes` wrote."""
        value = json.loads(content)
        return cls(
            run_id=value["run_id"],
            snapshot_id=value["snapshot_id"],
            rule=value["rule"],
            plan=StoredObject(**value["plan"]),
            counts=StoredObject(**value["counts"]),
            metadata={k: StoredObject(**v) for k, v in value["metadata"].items()},
            indexes=[v and StoredObject(**v) for v in value["indexes"]],
        )


@dataclass(frozen=True)
class FrozenRun:
    """A frozen run's folder and its record."""

    folder: str
    record: RunRecord

    @classmethod
    def open(cls, url: str, name: str = "") -> "FrozenRun":
        """Open a record, the folder of its run, or an output folder that holds just one.

        Records of one name differ in how the pool was cut into tasks; any of them will do.

        Args:
            url: where to look.
            name: take the record of this name where there are several.

        Raises:
            NotFoundError: no frozen run is there.
            InvalidInputError: several snapshots are.
        """
        fs, path = storage.locate(url)
        path = glob.escape(path)
        patterns = [path, f"{path}/{PREFIX}-*.json", f"{path}/runs/*/{PREFIX}-*.json"]
        found: list[str] = next(
            filter(None, map(fs.glob, patterns[not path.endswith(".json") :])), []
        )
        if not found:
            raise NotFoundError(f"{url}: no frozen run here; let `clipcurate run` finish first")
        by_name = {file.rpartition("-")[0]: file for file in sorted(found)}
        wanted = {k: file for k, file in by_name.items() if k.endswith(f"/{PREFIX}-{name}")}
        if len(chosen := wanted or by_name) > 1:
            names = ", ".join(chosen.values())
            raise InvalidInputError(
                f"{url}: several snapshots are here; name one record of: {names}"
            )
        file = fs.unstrip_protocol(*chosen.values())
        return cls(file.rpartition("/")[0], RunRecord.from_bytes(storage.read_bytes(file)))

    @property
    def identity(self) -> dict[str, Any]:
        """What an emission's identity says of the run."""
        metadata = {name: self.metadata(name).fingerprint for name in self.record.metadata}
        return {"id": self.record.run_id, "rule": self.record.rule, "metadata": metadata}

    def plan(self) -> RunPlan:
        """Return the run's plan."""
        return RunPlan.from_bytes(self._read(self.record.plan))

    def counts(self) -> dict[str, Any]:
        """Return the frozen counts: int64 arrays per metadata language."""
        return snapshot.from_bytes(self._read(self.record.counts))

    def projection(self) -> snapshot.Projection | None:
        """Return how the frozen counts were projected; None if they are the run's own."""
        return snapshot.projection_from_bytes(self._read(self.record.counts))

    def raw_counts(self) -> dict[str, Any]:
        """Return what was counted: the frozen counts before they were projected."""
        projection = self.projection()
        return dict(projection.raw) if projection else self.counts()

    def is_counted(self, task: int) -> bool:
        """Say whether the frozen counts are of this task's pairs, among others."""
        tasks = self._counted
        return self.record.indexes[task] is not None and (tasks is None or task in tasks)

    @cached_property
    def _counted(self) -> frozenset[int] | None:
        """The tasks whose counts were frozen; None where it was all of them."""
        projection = self.projection()
        named = projection.tasks if projection else None
        return None if named is None else frozenset(named)

    def metadata(self, language: str) -> Metadata:
        """Return a language's entries."""
        return Metadata.from_bytes(self._read(self.record.metadata[language]))

    def indexes(self) -> Iterator[MatchIndex]:
        """Yield the match index of every task in order; an empty one where it is quarantined."""
        return map(self._index, range(len(self.record.indexes)))

    def _index(self, task: int) -> MatchIndex:
        stored = self.record.indexes[task]
        return MatchIndex.from_bytes(self._read(stored)) if stored else MatchIndex.empty()

    def counted(self) -> list[int]:
        """Return the numbers of the tasks whose counts were frozen."""
        return [task for task in range(len(self.record.indexes)) if self.is_counted(task)]

    def pieces(self) -> Iterator[tuple[Sequence[Slice], MatchIndex]]:
        """Yield what each task reads of the pool, and its match index; nothing if quarantined."""
        for task, stored, index in zip(
            self.plan().tasks, self.record.indexes, self.indexes(), strict=True
        ):
            yield task.slices if stored else (), index

    def check(self, stored: StoredObject) -> None:
        """Hold one of the record's objects against its hash. Raises NotFoundError, StorageError."""
        storage.check_object(storage.join(self.folder, stored.name), stored.hash)

    def recount(self) -> dict[str, Any]:
        """Return what was counted as the match indexes have it."""
        sizes = {name: len(self.metadata(name).entries) for name in self.record.metadata}
        return recount(sizes, map(self._index, self.counted()))

    def _read(self, stored: StoredObject) -> bytes:
        return storage.read_object(storage.join(self.folder, stored.name), stored.hash)
