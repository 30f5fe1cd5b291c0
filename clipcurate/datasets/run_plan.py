"""The stored plan of a run: what is read, how, and in which tasks."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

from clipcurate.datasets.dedup import By, Dedup
from clipcurate.hashing import canonical_json, hash_json
from clipcurate.languages import LanguageChoice
from clipcurate.pools import Columns, Shard, Slice, Task, find_shards, plan_tasks
from clipcurate.pools.plan import estimated_rows, planned_rows
from clipcurate.storage import read_object

FORMAT = 1


@dataclass(frozen=True)
class RunPlan:
    """Shards with their pins, the columns, and the tasks.

    Attributes:
        languages: how texts find their metadata language; None where one list serves all.
        dedup: how duplicates are found; None where they stay.
    """

    shards: tuple[Shard, ...]
    columns: Columns
    tasks: tuple[Task, ...]
    languages: LanguageChoice | None = None
    dedup: Dedup | None = None

    @classmethod
    def make(
        cls,
        patterns: Sequence[str],
        columns: Columns,
        task_rows: int,
        languages: LanguageChoice | None = None,
        dedup: By | None = None,
    ) -> "RunPlan":
        """Find and pin the pool and cut it into tasks. Raises PoolError, InvalidInputError."""
        if languages is not None and languages.model is None:
            columns = replace(columns, needs_lang=True)
        shards = find_shards(patterns, columns)
        tasks = tuple(plan_tasks(shards, task_rows))
        parted = Dedup.of(dedup, sum(map(estimated_rows, shards)), task_rows)
        return cls(tuple(shards), columns, tasks, languages, parted)

    def run_id(self, metadata: Mapping[str, str], rule: str) -> str:
        """Return the hash of what determines the counts.

        Args:
            metadata: fingerprint of the entries per metadata language.
            rule: the matching rule.
        """
        identity = {
            "format": FORMAT,
            "shards": [shard.identity() for shard in self.shards],
            "columns": self.columns.identity(),
            "metadata": dict(metadata),
            "rule": rule,
        }
        if self.languages is not None:
            identity["languages"] = self.languages.identity()
        if self.dedup is not None:
            identity["dedup"] = self.dedup.by
        return hash_json(identity)

    @property
    def has_images(self) -> bool:
        """Whether any shard brings image bytes."""
        return any(shard.format == "webdataset" for shard in self.shards)

    def planned_rows(self, index: int) -> int:
        """Return a task's rows, as far as they are known; else estimated from the file's size."""
        return planned_rows(self.shards, self.tasks[index])

    @property
    def rows_estimated(self) -> bool:
        """Whether the rows of any shard are not known before it is read."""
        return any(shard.known_rows() is None for shard in self.shards)

    def first_shard(self, index: int) -> str:
        """Name the shard that a task reads, of several the first."""
        return self.shards[self.tasks[index].slices[0].shard].name

    def describe_task(self, index: int) -> list[dict[str, Any]]:
        """Name a task's inputs for people and for identities."""
        return [
            {
                "shard": self.shards[part.shard].name,
                "first_group": part.first_group,
                "num_groups": part.num_groups,
            }
            for part in self.tasks[index].slices
        ]

    def to_bytes(self) -> bytes:
        """Return the plan as JSON."""
        return canonical_json(
            {
                "format": FORMAT,
                "columns": asdict(self.columns),
                "shards": [shard.to_json() for shard in self.shards],
                "tasks": [
                    [[s.shard, s.first_group, s.num_groups] for s in task.slices]
                    for task in self.tasks
                ],
                "languages": self.languages and self.languages.to_json(),
                **({"dedup": asdict(self.dedup)} if self.dedup else {}),
            }
        )

    @classmethod
    def from_bytes(cls, content: bytes) -> "RunPlan":
        """Read what `to_bytes` wrote."""
        value = json.loads(content)
        columns = value["columns"]
        columns["more_texts"] = tuple(columns.get("more_texts", ()))
        return cls(
            tuple(Shard.from_json(shard) for shard in value["shards"]),
            Columns(**columns),
            tuple(Task(tuple(Slice(*part) for part in task)) for task in value["tasks"]),
            value["languages"] and LanguageChoice.from_json(value["languages"]),
            Dedup(**value["dedup"]) if "dedup" in value else None,
        )


@lru_cache(maxsize=4)
def load_plan(url: str, digest: str) -> RunPlan:
    """Return a stored run plan, from memory where it was read before. Raises as `read_object`."""
    return RunPlan.from_bytes(read_object(url, digest))
