"""What can go wrong, each as a small object; all choices come from the scene's seeded generator."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import redis

from clipcurate.errors import UnavailableError
from clipcurate.rpc.v1 import ledger_pb2 as pb
from services.counter.counts import RANGE
from services.counter.store import ACTIVE_RUNS, RUNS, run_prefix
from tests.chaos.deliveries import deliver_again
from tests.chaos.links import Mode
from tests.chaos.scene import Fault, Scene
from tests.chaos.system import COUNTERS, LEASE_SECONDS, WORKERS, System
from tests.waiting import wait_until

LONG = 2.5 * LEASE_SECONDS
"""Longer than a lease and than its grace."""
SHORT = 0.7


def kill(service: str, scene: Scene) -> None:
    """SIGKILL one process: of the workers the one that has a task in hand, if one has."""
    scene.system.kill(_victim(service, scene))


def kill_redis(scene: Scene) -> None:
    """SIGKILL Redis: nothing that it acknowledged may be gone afterwards."""
    scene.look()
    before = _done_in_redis(scene)
    scene.system.kill("redis")
    wait_until(lambda: _answers(scene), 60, "Redis answers")
    assert _done_in_redis(scene) >= before, "Redis lost what it had acknowledged"


def kill_all(scene: Scene) -> None:
    """SIGKILL every process, Redis too: a power cut."""
    names = list(scene.system.children)
    scene.rng.shuffle(names)
    for name in names:
        scene.system.kill(name)


def suspend(service: str, seconds: float, scene: Scene) -> None:
    """SIGSTOP a process; when it wakes up its leases have gone to others."""
    with scene.system.stopped(_victim(service, scene)):
        _pass(seconds)


def older(scene: Scene) -> None:
    """Redis comes back with an older copy of its data (empty, if there is none yet)."""
    scene.system.replace_redis(scene.rng.choice(scene.copies) if scene.copies else None)


def empty(scene: Scene) -> None:
    """Redis comes back without its data."""
    scene.system.replace_redis(None)


def older_range(scene: Scene) -> None:
    """One range of counts, with its marks, is what it was some tasks ago."""
    metadata = scene.rng.choice(scene.wanted.spec.metadata)
    name = f"{metadata.language}:{scene.rng.randrange(-(-metadata.num_entries // RANGE))}"
    keys = [f"{run_prefix(scene.wanted.run_id)}{kind}:{name}" for kind in ("counts", "marks")]
    with scene.system.redis() as client:
        before = dict(zip(keys, client.mget(keys), strict=True))
        _pass(SHORT)
        if None in before.values():
            client.delete(*keys)
        else:
            client.mset(before)


def lost_slot(scene: Scene) -> None:
    """All keys of the run's slot are gone; the lists of runs are not."""
    with scene.system.redis() as client:
        client.eval(_LOSE, 1, run_prefix(scene.wanted.run_id))


_LOSE = """
for _, key in ipairs(redis.call('KEYS', '*')) do
  if string.sub(key, 1, #KEYS[1]) == KEYS[1] then redis.call('DEL', key) end
end
"""


def lost_lists(scene: Scene) -> None:
    """The lists of runs are gone; the run is not."""
    with scene.system.redis() as client:
        client.delete(RUNS, ACTIVE_RUNS)


def cut(mode: Mode, seconds: float, to: str, scene: Scene) -> None:
    """Break the links of one process to Redis, or to both counters."""
    caller = scene.rng.choice(COUNTERS if to == "redis" else WORKERS)
    callees = ["redis"] if to == "redis" else list(COUNTERS)
    if scene.rng.random() < 0.5:
        callees = [scene.rng.choice(callees)]
    with _all_broken(scene, [f"{caller}>{callee}" for callee in callees], mode):
        _pass(seconds)


def full_disk(name: str, scene: Scene) -> None:
    """No space is left where datasets lie, or where Redis's files do."""
    with scene.system.disks[name].full():
        _pass(SHORT)


def read_only_output(scene: Scene) -> None:
    """Where datasets lie, nothing can be written."""
    with scene.system.disks["output"].read_only():
        _pass(SHORT)


def script_flush(scene: Scene) -> None:
    """Redis forgets all scripts."""
    with scene.system.redis() as client:
        client.script_flush()


def clock_jump(seconds: float, scene: Scene) -> None:
    """Redis's clock jumps.

    Redis's clock enters by comparison with the times that Redis holds, and in no other way: to move
    all of these back, at once, is the same as to move the clock forward.
    """
    with scene.system.redis() as client:
        client.eval(_SHIFT, 1, run_prefix(scene.wanted.run_id), -int(seconds * 1000))


_SHIFT = """
local prefix, shift = KEYS[1], tonumber(ARGV[1])
for _, key in ipairs(redis.call('KEYS', '*')) do
  if string.sub(key, 1, #prefix) == prefix then
    local name = string.sub(key, #prefix + 1)
    if name == 'leases' or string.sub(name, 1, 6) == 'queue:' then
      local held = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
      for i = 1, #held, 2 do
        if tonumber(held[i + 1]) > 1 then redis.call('ZINCRBY', key, shift, held[i]) end
      end
    elseif name == 'run' then
      for _, field in ipairs({'seen', 'grace'}) do
        if redis.call('HEXISTS', key, field) == 1 then
          redis.call('HINCRBY', key, field, shift)
        end
      end
    elseif string.sub(name, 1, 5) == 'task:' and redis.call('HEXISTS', key, 'avoid_until') == 1 then
      redis.call('HINCRBY', key, 'avoid_until', shift)
    end
  end
end
"""


@contextmanager
def _all_broken(scene: Scene, names: list[str], mode: Mode) -> Iterator[None]:
    if not names:
        yield
        return
    with scene.system.links.broken(names[0], mode), _all_broken(scene, names[1:], mode):
        yield


def _victim(service: str, scene: Scene) -> str:
    """Return a process of a service: one that holds a lease, if one does."""
    names = [name for name in scene.system.children if name.partition("-")[0] == service]
    holders = _holders(scene) if service in {"matcher", "sampler"} else set()
    busy = [name for name in names if scene.system.pid(name) in holders]
    return scene.rng.choice(busy or names)


def _holders(scene: Scene) -> set[int]:
    found = set()
    try:
        for stage in scene.run.stages:
            if stage.leased:
                for record in scene.ledger.list_tasks(
                    scene.wanted.run_id, stage.stage, stage.emission_key
                ):
                    if record.state == pb.TASK_STATE_LEASED:
                        found.add(int(record.worker.rpartition(":")[2]))
    except UnavailableError:
        return set()
    return found


def _done_in_redis(scene: Scene) -> int:
    prefix = run_prefix(scene.wanted.run_id)
    with scene.system.redis() as client:
        tallies = list(client.scan_iter(prefix + "tally:*", 1000))
        return sum(int(client.hget(key, "done") or 0) for key in tallies)


def _answers(scene: Scene) -> bool:
    try:
        with scene.system.redis() as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False


def _pass(seconds: float) -> None:
    """Let time pass; whoever would look at the run meanwhile might wait for what is broken."""
    threading.Event().wait(seconds)


def kinds(system: System) -> list[Fault]:
    """Return every kind of fault; those of disks only where file systems could be mounted."""
    found = [Fault(f"kill -9 {name}", partial(kill, name)) for name in _SERVICES]
    found += [Fault(f"SIGSTOP {name}", partial(suspend, name, LONG)) for name in _SERVICES]
    found += [
        Fault("kill -9 redis", kill_redis),
        Fault("kill -9 everything", kill_all),
        Fault("SIGSTOP redis", partial(suspend, "redis", LONG)),
        Fault("redis older", older),
        Fault("redis empty", empty),
        Fault("a range of counts older", older_range),
        Fault("the run's slot lost", lost_slot),
        Fault("the lists of runs lost", lost_lists),
        Fault("SCRIPT FLUSH", script_flush),
        Fault("clock +1 hour", partial(clock_jump, 3600.0)),
        Fault("clock -1 hour", partial(clock_jump, -3600.0)),
        Fault("deliveries repeated and late", deliver_again),
    ]
    if all(disk.own for disk in system.disks.values()):
        found += [
            Fault("disk of the output full", partial(full_disk, "output")),
            Fault("disk of redis full", partial(full_disk, "redis")),
            Fault("output read-only", read_only_output),
        ]
    for to in ("counter", "redis"):
        found += [
            Fault(f"link to {to} resets", partial(cut, Mode.RESET, SHORT, to)),
            Fault(f"link to {to} slow", partial(cut, Mode.SLOW, LONG, to)),
            Fault(f"link to {to} forgets connections", partial(cut, Mode.LOST, SHORT, to)),
            Fault(f"link to {to} silent", partial(cut, Mode.SILENT, LONG, to)),
            Fault(f"link to {to} loses replies", partial(cut, Mode.DEAF, SHORT, to)),
        ]
    return found


_SERVICES = ("counter", "matcher", "sampler")
