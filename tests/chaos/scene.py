"""One run under faults: followed to its end as `clipcurate run` follows it."""

import contextlib
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from clipcurate.cli.submission import Submission
from clipcurate.errors import NotFoundError, UnavailableError
from clipcurate.rpc.clients import LedgerClient
from clipcurate.rpc.v1 import ledger_pb2 as pb
from tests.chaos.system import System
from tests.waiting import wait_until

RUN_SECONDS = 240.0
RECOVER_SECONDS = 90.0
POLL_SECONDS = 0.03
COPY_EVERY = 12
"""Tasks between two copies of Redis's files."""


@dataclass
class Scene:
    """What a fault may act on.

    Attributes:
        system: the processes.
        wanted: the run.
        rng: seeded; every choice comes from it.
        ledger: the operator's client.
        copies: copies of Redis's files, oldest first.
        deliveries: what the harness itself has counted, to be sent again.
        run: the run as last seen.
    """

    system: System
    wanted: Submission
    rng: Random
    ledger: LedgerClient
    folder: Path
    copies: list[Path] = field(default_factory=list)
    deliveries: list[Callable[[], None]] = field(default_factory=list)
    run: pb.Run = field(default_factory=pb.Run)

    @property
    def done(self) -> int:
        """Tasks done so far, of all stages."""
        return sum(stage.done for stage in self.run.stages)

    @property
    def active(self) -> bool:
        """Whether there is work left, as last seen."""
        return self.run.state in {pb.RUN_STATE_UNSPECIFIED, pb.RUN_STATE_ACTIVE}

    def register(self) -> None:
        """Register the run, as `run` does at its start and when the ledger forgot it."""
        self.ledger.create_run(self.wanted.run_id, self.wanted.spec, self.wanted.emissions)

    def look(self) -> None:
        """Look at the run; register it again where Redis has forgotten it."""
        try:
            self.run = self.ledger.get_run(self.wanted.run_id)
        except UnavailableError:
            return
        except NotFoundError:
            self.run = pb.Run()
            with contextlib.suppress(UnavailableError):
                self.register()
            return
        if self.done >= COPY_EVERY * (len(self.copies) + 1):
            self.copies.append(self.folder / f"redis-{len(self.copies)}")
            self.system.copy_redis(self.copies[-1])


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong. `inflict` returns when it is over, but for its consequences."""

    name: str
    inflict: Callable[[Scene], None]


@dataclass
class Recovery:
    """How long after a fault all services served and work went on; None: they did not."""

    fault: str
    seconds: float | None = None


def follow(
    scene: Scene,
    faults: Sequence[tuple[float, Fault]],
    tasks: int,
    recoveries: list[Recovery],
) -> None:
    """Run to the end, inflicting each fault when its share of `tasks` is done."""
    for share, fault in faults:
        _until(scene, _at(scene, share * tasks), RUN_SECONDS, fault.name)
        if not scene.active:
            break
        print(f"  {scene.done:4} tasks done: {fault.name}", flush=True)
        recoveries.append(Recovery(fault.name))
        fault.inflict(scene)
        recoveries[-1].seconds = _recover(scene, fault)
    _until(scene, lambda: False, RUN_SECONDS, "the end of the run")


def _at(scene: Scene, done: float) -> Callable[[], bool]:
    return lambda: scene.done >= done


def _recover(scene: Scene, fault: Fault) -> float:
    """Wait until every service serves and another task is done; return the seconds."""
    start = time.monotonic()
    scene.look()
    lowest = scene.done

    def moves() -> bool:
        nonlocal lowest
        lowest = min(lowest, scene.done)
        return scene.done > lowest

    _until(scene, moves, RECOVER_SECONDS, f"work after: {fault.name}")
    while not scene.system.healthy():
        assert time.monotonic() - start < RECOVER_SECONDS, f"not healthy after: {fault.name}"
    return time.monotonic() - start


def _until(scene: Scene, condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Look at the run until a condition holds or there is no work left."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s; {_state(scene)}"
        time.sleep(POLL_SECONDS)
        scene.look()
        if not scene.active:
            assert scene.run.state == pb.RUN_STATE_DONE, scene.run.problems
            return


def _state(scene: Scene) -> str:
    alive = {name: child.alive for name, child in scene.system.children.items()}
    return f"{alive}, {scene.run.state}, {scene.run.stages}"


def fresh(system: System, folder: Path) -> None:
    """Empty Redis for the next run, its log too, and its folder of copies.

    Redis rewrites its log when it has doubled since it started, which faults never let it.
    """
    with system.redis() as client:
        client.flushall()
        wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], 30, "rewrite")
        client.bgrewriteaof()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
