"""Counts that are frozen when they have converged, while matching goes on."""

import json
import math
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import redis
import xxhash

from clipcurate.balancing.stability import StabilityRule
from clipcurate.cli.local import LocalStack, StackOptions, local_stack
from clipcurate.cli.options import run_request
from clipcurate.cli.submission import Submission, prepare
from clipcurate.datasets import manifest as manifests
from clipcurate.datasets.manifest import Manifest
from clipcurate.datasets.request import EmissionRequest
from clipcurate.datasets.run_plan import load_plan
from clipcurate.datasets.run_record import FrozenRun, record_name
from clipcurate.datasets.verify import verify_dataset
from clipcurate.errors import UnavailableError
from clipcurate.metadata import ALL
from clipcurate.pools import Columns, Slice
from clipcurate.rpc.clients import LedgerClient
from clipcurate.rpc.v1 import ledger_pb2 as pb
from tests.conftest import CommandLine
from tests.pools import ENTRIES, make_parquet_pool, matched_entries, write_metadata
from tests.waiting import wait_until

FILES, TASK_ROWS = 27, 25
ROWS = FILES * 6 * TASK_ROWS
SIZE = 500
T = 60.0
SECONDS = 120.0
BITS = 0xFFFFFFFFFFFFFFFF


@dataclass
class Story:
    """A run that is watched, and what it was like at some moments.

    Attributes:
        folder: holds inputs, output and state.
        wanted: the run.
        frozen: the run as it was when the counts were frozen and some tasks scored, with matching
            under way.
        ended: the run as it was in the end.
    """

    folder: Path
    wanted: Submission
    frozen: pb.Run = field(default_factory=pb.Run)
    ended: pb.Run = field(default_factory=pb.Run)

    @property
    def urls(self) -> list[str]:
        return [emission.plan.dataset_url for emission in self.ended.emissions]

    @property
    def output(self) -> str:
        return str(self.folder / "out")

    @property
    def redis(self) -> Path:
        return self.folder / "state" / "redis"

    @contextmanager
    def watched(self) -> Iterator["Watching"]:
        """Start the system and register the run."""
        options = StackOptions(self.folder / "state", lease_seconds=1.0)
        with local_stack(options) as stack, LedgerClient(stack.counter) as ledger:
            watching = Watching(stack, ledger, self.wanted)
            ledger.create_run(self.wanted.run_id, self.wanted.spec, self.wanted.emissions)
            yield watching


@dataclass
class Watching:
    """A running system and the run as last seen."""

    stack: LocalStack
    ledger: LedgerClient
    wanted: Submission
    run: pb.Run = field(default_factory=pb.Run)

    def look(self) -> pb.Run:
        with suppress(UnavailableError):  # the counter may be among the victims
            self.run = self.ledger.get_run(self.wanted.run_id)
        return self.run

    def send(self, number: signal.Signals, *names: str) -> None:
        """Signal children whose names begin so."""
        for child in self.stack.supervisor.children:
            if child.name.startswith(names) and child.process and child.alive:
                child.process.send_signal(number)

    def done(self, stage: int) -> int:
        return sum(progress.done for progress in self.run.stages if progress.stage == stage)

    def until_scored_early(self) -> None:
        """Stop the matchers once counts are converged, until they are frozen and tasks scored."""
        wait_until(lambda: self.look().frozen_early, SECONDS, "convergence")
        self.send(signal.SIGSTOP, "matcher")
        wait_until(lambda: self.look() and self.done(pb.STAGE_SCORE) > 3, SECONDS, "scores")

    def to_the_end(self) -> list[Manifest]:
        wait_until(lambda: self.look().state != pb.RUN_STATE_ACTIVE, SECONDS, "the end")
        assert self.run.state == pb.RUN_STATE_DONE, self.run.problems
        return [manifests.load(emission.plan.dataset_url) for emission in self.run.emissions]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A pool of 162 tasks, a few of which tell the counts well enough for this epsilon."""
    folder = tmp_path_factory.mktemp("story")
    make_parquet_pool(folder / "pool", FILES, 6 * TASK_ROWS)
    metadata = str(write_metadata(folder / "metadata.json"))
    request = run_request(
        [str(folder / "pool")],
        Columns(),
        [metadata],
        False,
        str(folder / "out"),
        task_rows=TASK_ROWS,
        stability=StabilityRule(epsilon=0.6, windows=2, share=0.02),
        freeze="converged",
    )
    emissions = [
        EmissionRequest("balanced", t=T, part_bytes=20_000),
        EmissionRequest("balanced", size=SIZE, seed=5),
        EmissionRequest("matched"),
    ]
    return Story(folder, prepare(request, emissions))


@pytest.fixture(scope="module")
def datasets(story: Story) -> list[Manifest]:
    """What comes out undisturbed; Redis's files at the moment of `frozen` are kept."""
    with story.watched() as watching:
        watching.until_scored_early()
        story.frozen = watching.run
        shutil.copytree(story.redis, story.folder / "copy")
        watching.send(signal.SIGCONT, "matcher")
        found = watching.to_the_end()
        story.ended = watching.run
        return found


def test_the_sampler_works_while_matching_goes_on(story: Story, datasets: list[Manifest]) -> None:
    stages = {(s.stage, s.emission_key): s for s in story.frozen.stages}
    match = stages[pb.STAGE_MATCH, ""]
    total = story.wanted.spec.num_tasks
    assert match.done < total / 2
    for emission in story.frozen.emissions:
        scored = stages[pb.STAGE_SCORE, emission.key]
        assert scored.total == total
        assert scored.waiting == total - match.done, "the others wait for their match tasks"
    found = story.frozen.frozen.convergence
    assert 0 < found.tasks <= match.done
    assert found.pairs_seen == TASK_ROWS * found.tasks
    assert found.pairs_announced == ROWS
    assert found.drift < found.epsilon == 0.6
    assert found.windows == 2


def test_the_manifest_says_on_what_it_acted(story: Story, datasets: list[Manifest]) -> None:
    found = story.frozen.frozen.convergence
    for manifest in datasets:
        assert manifest.totals.pairs == ROWS
        projected = manifest.identity["projected"]
        assert (projected["seen"], projected["announced"]) == (found.pairs_seen, ROWS)
        assert manifest.identity["quarantined"] == []
        assert manifest.provenance["stability"] == "converged"
        assert manifest.provenance["convergence"]["drift"] == found.drift
        assert manifest.provenance["convergence"]["tasks"] == found.tasks
    assert datasets[1].totals.kept == SIZE
    card = (Path(story.urls[0]) / "README.md").read_text()
    assert f"counts of {found.pairs_seen:,} pairs stand for {ROWS:,}" in card


def mixed(x: int) -> int:
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & BITS
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & BITS
    return x ^ (x >> 31)


def coin(url: str, text: str) -> float:
    """The pair's uniform number with seed 0, round 0, as docs/architecture.md has it."""
    uid = xxhash.xxh3_128_hexdigest(f"{url}\0{text}".encode())
    key = xxhash.xxh3_128_intdigest(f"{uid}\0{text}".encode())
    state = 0
    for _ in range(3):
        state = mixed(state ^ 0x9E3779B97F4A7C15)
    return (mixed(mixed(state ^ (key >> 64)) ^ (key & BITS)) >> 11) * 2.0**-53


def test_the_dataset_is_what_the_frozen_counts_give(story: Story, datasets: list[Manifest]) -> None:
    plan = load_plan(story.wanted.spec.plan.url, story.wanted.spec.plan.hash)
    identity = datasets[0].identity
    name = record_name(identity["snapshot"], identity["quarantined"])
    frozen = FrozenRun.open(story.output, name)
    raw, kept = np.zeros(len(ENTRIES), np.int64), []
    rows = [
        [row for part in task.slices for row in read(story, plan.shards[part.shard].name, part)]
        for task in plan.tasks
    ]
    for task in frozen.counted():
        for row in rows[task]:
            raw[matched_entries(row["text"])] += 1
    assert frozen.raw_counts()[ALL].tolist() == raw.tolist()
    seen = TASK_ROWS * len(frozen.counted())
    counts = [max(1, round(int(count) * ROWS / seen)) for count in raw]
    assert frozen.counts()[ALL].tolist() == counts
    for row in (row for task in rows for row in task):
        hits = matched_entries(row["text"])
        miss = math.prod(1 - min(1.0, T / counts[hit]) for hit in hits)
        if hits and miss < 1 - coin(row["url"], row["text"]):
            kept.append((row["url"], row["text"]))
    found = [
        (row["url"], row["text"])
        for table in manifests.read_pairs(story.urls[0], datasets[0], ["url", "text"])
        for row in table.to_pylist()
    ]
    assert found == kept


def test_it_is_proven_with_its_run(
    story: Story, datasets: list[Manifest], command_line: CommandLine
) -> None:
    for url in story.urls:
        done = command_line("verify", url, "--run", story.output)
        assert done.returncode == 0, done.stderr
    compared = command_line("recount", story.output, "--json")
    assert compared.returncode == 0, compared.stderr
    found = json.loads(compared.stdout)
    assert (found["frozen"], found["tasks"]) == (True, story.frozen.frozen.convergence.tasks)
    planned = command_line("plan", story.output, "--t", T, "--json")
    assert json.loads(planned.stdout)["size"] == datasets[0].totals.kept


def test_kill_9_of_anything_after_the_freeze_changes_no_byte(
    story: Story, datasets: list[Manifest]
) -> None:
    """Redis goes back to the moment of freezing; what follows is the same, with faults."""
    replace_redis(story, story.folder / "copy")
    shutil.rmtree(story.folder / "out" / "datasets")
    with story.watched() as watching:
        for share, victim in enumerate(["matcher-0", "counter", "sampler", "redis"], 1):
            goal = story.wanted.spec.num_tasks * share // 5
            wait_until(lambda g=goal: watching.look() and watching.done(1) > g, SECONDS, victim)
            watching.send(signal.SIGKILL, victim)
        again = watching.to_the_end()
    assert watching.run.frozen == story.frozen.frozen
    assert [one.dataset_hash for one in again] == [one.dataset_hash for one in datasets]


def test_a_run_that_redis_lost_is_frozen_anew_and_mixes_nothing(
    story: Story, datasets: list[Manifest]
) -> None:
    replace_redis(story, None)
    with story.watched() as watching:
        watching.send(signal.SIGSTOP, "sampler")  # so that nothing is frozen before the loss
        wait_until(lambda: watching.look().frozen_early, SECONDS, "convergence")
        watching.send(signal.SIGSTOP, "matcher")
        lose_counts(watching.stack)
        watching.send(signal.SIGCONT, "sampler")
        wait_until(lambda: watching.look().HasField("frozen"), SECONDS, "freezing")
        assert watching.run.frozen.recounted, "from the match indexes of the counted tasks"
        watching.send(signal.SIGCONT, "matcher")
        watching.send(signal.SIGKILL, "sampler", "counter")
        watching.to_the_end()
    for url in [*(e.plan.dataset_url for e in watching.run.emissions), *story.urls]:
        manifest = verify_dataset(url, story.output)
        assert manifest.totals.pairs == ROWS


def lose_counts(stack: LocalStack) -> None:
    counter = next(child for child in stack.supervisor.children if child.name == "counter")
    url = counter.environment["CLIPCURATE_COUNTER_REDIS_URL"]
    with redis.Redis.from_url(url) as client:
        assert client.delete(*client.scan_iter("*counts:all:*"))


def replace_redis(story: Story, source: Path | None) -> None:
    shutil.rmtree(story.redis)
    if source is not None:
        shutil.copytree(source, story.redis)


def read(story: Story, shard: str, part: Slice) -> list[dict[str, str]]:
    """Return the rows of a slice of a shard."""
    groups = range(part.first_group, part.first_group + part.num_groups)
    file = pq.ParquetFile(story.folder / "pool" / shard)
    rows: list[dict[str, str]] = file.read_row_groups([*groups], ["url", "text"]).to_pylist()
    return rows
