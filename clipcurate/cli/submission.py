"""From a user's words to what the ledger takes: a planned run and its emissions."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from google.protobuf import json_format

from clipcurate import storage
from clipcurate.balancing.stability import StabilityRule
from clipcurate.cli.languages import LanguageRequest, plan_languages
from clipcurate.datasets.dedup import parse_kind
from clipcurate.datasets.request import EmissionRequest, require_groupable, require_no_whole
from clipcurate.datasets.run_plan import RunPlan
from clipcurate.errors import NotFoundError
from clipcurate.matching import ENGINES, RULES
from clipcurate.matching.matcher import require_known
from clipcurate.metadata import Metadata
from clipcurate.pools import Columns
from clipcurate.rpc.emissions import spec_of
from clipcurate.rpc.references import reference
from clipcurate.rpc.v1 import ledger_pb2 as pb

FREEZES = {"complete": pb.STABILITY_UNSPECIFIED, "converged": pb.STABILITY_CONVERGED}
"""When counts may be frozen; the default leaves specs as they were before there was a choice."""


@dataclass(frozen=True)
class TrainRequest:
    """Which training follows each emission."""

    preset: str
    overrides: Mapping[str, str]
    eval_url: str = ""


@dataclass(frozen=True)
class RunRequest:
    """What a user asks for, resolved to values.

    Attributes:
        pool: files, folders or globs.
        columns: which pool column plays which part.
        metadata: the entries per metadata language.
        output_url: folder for everything the run writes.
        rule: matching rule.
        engine: matching engine.
        task_rows: about how many rows a task has.
        order_seed: keys the order in which tasks are handed out.
        languages: how texts find their metadata language.
        dedup: drop pairs that repeat an earlier one's uid or url; empty to keep them.
        stability: when the counts are converged.
        announced_pairs: of the pool that this one is a part of; 0 where it is the whole one.
        freeze: when counts are frozen: "complete", or as soon as they are "converged".
    """

    pool: Sequence[str]
    columns: Columns
    metadata: Mapping[str, Metadata]
    output_url: str
    rule: str = "metaclip1"
    engine: str = "token-trie"
    task_rows: int = 1_000_000
    order_seed: int = 0
    languages: LanguageRequest = field(default_factory=LanguageRequest)
    dedup: str = ""
    stability: StabilityRule = field(default_factory=StabilityRule)
    announced_pairs: int = 0
    freeze: str = "complete"


@dataclass(frozen=True)
class Submission:
    """What the ledger takes. `finished` is kept beside it in the output folder."""

    run_id: str
    spec: pb.RunSpec
    emissions: tuple[pb.EmissionSpec, ...]
    finished: bool = False

    def save(self, url: str) -> None:
        """Write the submission as JSON."""
        value = {
            "run_id": self.run_id,
            "spec": json_format.MessageToDict(self.spec),
            "emissions": [json_format.MessageToDict(spec) for spec in self.emissions],
            "finished": self.finished,
        }
        storage.write_bytes(url, json.dumps(value, indent=2).encode())

    @classmethod
    def load(cls, url: str) -> "Submission | None":
        """Read what `save` wrote; None if there is nothing."""
        try:
            value = json.loads(storage.read_bytes(url))
        except NotFoundError:
            return None
        spec = json_format.ParseDict(value["spec"], pb.RunSpec())
        emissions = [json_format.ParseDict(e, pb.EmissionSpec()) for e in value["emissions"]]
        return cls(value["run_id"], spec, tuple(emissions), value["finished"])

    def with_finished(self) -> "Submission":
        """Return the submission as finished."""
        return replace(self, finished=True)


def prepare(
    request: RunRequest,
    emissions: Sequence[EmissionRequest],
    training: TrainRequest | None = None,
) -> Submission:
    """Plan the pool, store plan and metadata, and return what the ledger takes.

    Raises:
        PoolError: the pool cannot be planned.
        InvalidInputError: unknown rule, engine, dedup or moment to freeze; an emission that these
            metadata cannot give, or only a whole pool can; or languages that cannot be told so.
        StorageError: the output cannot be written.
    """
    require_known("rule", request.rule, list(RULES))
    require_known("engine", request.engine, list(ENGINES))
    require_known("moment to freeze", request.freeze, list(FREEZES))
    emissions = [emission.for_languages(request.metadata) for emission in emissions]
    dedup = parse_kind(request.dedup)
    require_groupable(emissions, request.dedup)
    if request.announced_pairs:
        require_no_whole(emissions, dedup=dedup is not None)
    languages = plan_languages(request.metadata, request.languages)
    plan = RunPlan.make(request.pool, request.columns, request.task_rows, languages.choice, dedup)
    fingerprints = {name: entries.fingerprint for name, entries in request.metadata.items()}
    run_id = plan.run_id(fingerprints, request.rule)
    folder = storage.join(request.output_url, "runs", run_id)
    languages.publish(folder)
    stored_plan = storage.publish_bytes(plan.to_bytes(), folder, "plan", ".json")
    spec = pb.RunSpec(
        output_url=request.output_url,
        plan=reference(folder, stored_plan),
        num_tasks=len(plan.tasks),
        metadata=[_publish_metadata(name, request, folder) for name in sorted(fingerprints)],
        rule=request.rule,
        engine=request.engine,
        order_seed=request.order_seed,
        dedup_partitions=plan.dedup.partitions if plan.dedup else 0,
        stability=_stability_spec(request),
        planned_rows=sum(map(plan.planned_rows, range(len(plan.tasks)))),
        rows_estimated=plan.rows_estimated,
        freeze=FREEZES[request.freeze],
    )
    return Submission(run_id, spec, tuple(emission_spec(e, training) for e in emissions))


def _stability_spec(request: RunRequest) -> pb.StabilitySpec:
    rule = request.stability
    return pb.StabilitySpec(
        epsilon=rule.epsilon,
        windows=rule.windows,
        window_share=rule.share,
        announced_pairs=request.announced_pairs,
    )


def _publish_metadata(language: str, request: RunRequest, folder: str) -> pb.MetadataRef:
    entries = request.metadata[language]
    stored = storage.publish_bytes(entries.to_bytes(), folder, f"metadata-{language}", ".parquet")
    return pb.MetadataRef(
        language=language,
        fingerprint=entries.fingerprint,
        num_entries=len(entries.entries),
        object=reference(folder, stored),
    )


def emission_spec(request: EmissionRequest, training: TrainRequest | None) -> pb.EmissionSpec:
    """Return an emission as the ledger takes it."""
    spec = spec_of(request)
    if training is not None:
        spec.train.CopyFrom(
            pb.TrainSpec(
                preset=training.preset,
                overrides=dict(training.overrides),
                eval_url=training.eval_url,
            )
        )
    return spec
