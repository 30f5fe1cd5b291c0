import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipcurate import storage
from clipcurate.cli.languages import LanguageRequest
from clipcurate.cli.submission import RunRequest, Submission, TrainRequest, emission_spec, prepare
from clipcurate.datasets.dedup import Dedup
from clipcurate.datasets.request import EmissionRequest
from clipcurate.datasets.run_plan import RunPlan
from clipcurate.errors import InvalidInputError, PoolError, StorageError
from clipcurate.metadata import ALL, Metadata
from clipcurate.pools import Columns
from clipcurate.rpc.v1 import ledger_pb2 as pb

T = 0.1 + 0.2
EMISSIONS = [
    EmissionRequest("balanced", t=T, seed=2**64 - 1, round=2**32 - 1),
    EmissionRequest("balanced", size=2**53 + 1),
    EmissionRequest("balanced", tail_share=0.06),
    EmissionRequest("matched", part_bytes=2**62, semantics="record"),
]
TRAINING = TrainRequest("tiny", {"lr": "1e-3", "note": "ä"}, "/eval")


@pytest.fixture
def request_(tmp_path: Path) -> RunRequest:
    pool = tmp_path / "pool"
    pool.mkdir()
    for name in ("a.parquet", "b.parquet"):
        pq.write_table(pa.table({"caption": ["a dog"] * 8}), pool / name, row_group_size=2)
    metadata = {ALL: Metadata.from_entries(["dog", "猫"])}
    return RunRequest([str(pool)], Columns(), metadata, str(tmp_path / "out"), task_rows=4)


def test_prepares_a_run_that_its_files_explain(request_: RunRequest) -> None:
    submission = prepare(request_, EMISSIONS, TRAINING)
    spec = submission.spec
    plan = RunPlan.from_bytes(storage.read_object(spec.plan.url, spec.plan.hash))
    assert spec.num_tasks == len(plan.tasks) == 4
    (entry_list,) = spec.metadata
    content = storage.read_object(entry_list.object.url, entry_list.object.hash)
    assert Metadata.from_bytes(content) == request_.metadata[ALL]
    assert entry_list.fingerprint == request_.metadata[ALL].fingerprint
    assert (entry_list.language, entry_list.num_entries) == (ALL, 2)
    assert submission.run_id == plan.run_id({ALL: entry_list.fingerprint}, "metaclip1")
    assert f"/runs/{submission.run_id}/" in spec.plan.url
    assert len(submission.emissions) == 4


def test_preparing_again_is_the_same_run(request_: RunRequest) -> None:
    first = prepare(request_, EMISSIONS)
    assert prepare(request_, EMISSIONS) == first
    other = replace(request_, task_rows=100, order_seed=5, engine="aho-corasick")
    assert prepare(other, []).run_id == first.run_id
    assert prepare(replace(request_, metadata={ALL: Metadata(("dog",))}), []).run_id != first.run_id


def test_dedup(request_: RunRequest) -> None:
    plain = prepare(request_, [])
    assert plain.spec.dedup_partitions == 0
    submission = prepare(replace(request_, dedup="url", task_rows=1), [])
    assert submission.spec.dedup_partitions == 2
    assert submission.run_id != plain.run_id
    plan = RunPlan.from_bytes(storage.read_bytes(submission.spec.plan.url))
    assert plan.dedup == Dedup("url", 2)


def test_metadata_per_language(request_: RunRequest) -> None:
    lists = {"zh": Metadata(("猫",)), "en": Metadata(("dog",))}
    languages = LanguageRequest("builtin", {"tlh": "en"})
    several = replace(request_, metadata=lists, languages=languages)
    submission = prepare(several, EMISSIONS[2:3])
    spec = submission.spec
    assert [ref.language for ref in spec.metadata] == ["en", "zh"]
    assert "/metadata-zh-" in spec.metadata[1].object.url
    plan = RunPlan.from_bytes(storage.read_object(spec.plan.url, spec.plan.hash))
    assert plan.languages is not None
    assert plan.languages.codes.of("tlh") == "en"
    fingerprints = {name: entries.fingerprint for name, entries in lists.items()}
    assert submission.run_id == plan.run_id(fingerprints, "metaclip1")
    other = replace(several, languages=LanguageRequest("builtin"))
    assert prepare(other, []).run_id != submission.run_id
    (sized,) = prepare(several, EMISSIONS[1:2]).emissions
    assert (sized.size, sized.base_tail_share) == (2**53 + 1, 0.06)
    with pytest.raises(InvalidInputError, match="semantics record needs metadata of one language"):
        prepare(several, EMISSIONS[3:])


@pytest.mark.parametrize("training", [None, TRAINING], ids=["untrained", "trained"])
def test_save_and_load(request_: RunRequest, tmp_path: Path, training: TrainRequest | None) -> None:
    submission = prepare(replace(request_, order_seed=2**64 - 1), EMISSIONS, training)
    url = str(tmp_path / "run.json")
    submission.save(url)
    loaded = Submission.load(url)
    assert loaded == submission
    assert loaded.emissions[0].t == T
    loaded.with_finished().save(url)
    finished = Submission.load(url)
    assert finished is not None
    assert finished.finished
    assert replace(finished, finished=False) == submission
    assert json.loads(Path(url).read_bytes())["run_id"] == submission.run_id


def test_nothing_saved_is_none(tmp_path: Path) -> None:
    assert Submission.load(str(tmp_path / "run.json")) is None


def test_emission_specs() -> None:
    spec = emission_spec(EMISSIONS[0], TRAINING)
    assert spec.WhichOneof("target") == "t"
    assert (spec.t, spec.seed, spec.round) == (T, 2**64 - 1, 2**32 - 1)
    assert spec.semantics == pb.SEMANTICS_PAIR
    assert spec.train.preset == "tiny"
    assert dict(spec.train.overrides) == TRAINING.overrides
    assert emission_spec(EMISSIONS[1], None).size == 2**53 + 1
    matched = emission_spec(EMISSIONS[3], None)
    assert matched.WhichOneof("target") is None
    assert matched.kind == pb.EMISSION_KIND_MATCHED
    assert matched.semantics == pb.SEMANTICS_RECORD
    assert not matched.HasField("train")


def test_what_is_unknown_is_refused_before_anything_is_written(request_: RunRequest) -> None:
    for wrong in ({"rule": "metaclip9"}, {"engine": "grep"}, {"dedup": "text"}):
        with pytest.raises(InvalidInputError, match="known"):
            prepare(replace(request_, **wrong), [])
    with pytest.raises(PoolError, match="no such file"):
        prepare(replace(request_, pool=["/nowhere/at/all"]), [])
    assert not Path(request_.output_url).exists()


def test_an_output_below_a_file(request_: RunRequest, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot write"):
        prepare(replace(request_, output_url=str(tmp_path / "file" / "out")), [])
