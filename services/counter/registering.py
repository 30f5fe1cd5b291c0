"""Registers runs and turns them off and on: single steps in Redis that an archived run refuses."""

import secrets
from collections.abc import Sequence

from clipcurate.errors import ConflictError
from clipcurate.hashing import hash_bytes
from clipcurate.rpc import tracing
from clipcurate.rpc.v1 import ledger_pb2 as pb
from services.counter.archiving import clear
from services.counter.store import Store
from services.counter.windows import frozen_when


def emission_key(spec: pb.EmissionSpec) -> str:
    """Return the hash of a request for a dataset and for the training on it."""
    return hash_bytes(spec.SerializeToString(deterministic=True))[:16]


def require_same(run_id: str, known: pb.RunSpec, spec: pb.RunSpec) -> None:
    """Raise ConflictError where a run is known, and `spec` would make of it what it is not."""
    if known.output_url != spec.output_url:
        raise ConflictError(
            f"run {run_id} writes to {known.output_url}, not to {spec.output_url}: the same "
            "pool and metadata are one run; use its output, or services of their own"
        )
    was, wanted = known.stability.announced_pairs, spec.stability.announced_pairs
    if was != wanted:
        raise ConflictError(
            f"run {run_id} has {was or 'no'} announced pairs, not {wanted or 'none'}, and is "
            "frozen once: give the same --announced-pairs, or use services of their own (of "
            "`clipcurate run`: another --output)"
        )
    frozen, wants = frozen_when(known), frozen_when(spec)
    if frozen != wants:
        raise ConflictError(
            f"run {run_id} freezes {frozen} counts, not {wants} ones, and is frozen once: give "
            f"--freeze {frozen}, or use services of their own (of `clipcurate run`: another "
            "--output)"
        )


def register(
    store: Store,
    run_id: str,
    spec: pb.RunSpec,
    emissions: Sequence[pb.EmissionSpec],
    now: float,
    *,
    anew: bool,
) -> bool:
    """Make a run, or add emissions to it, and make it active; False if it is archived.

    Args:
        store: the connection.
        run_id: the run.
        spec: what it is, unless that is known.
        emissions: in the order of request.
        now: Unix time.
        anew: delete what is left of an archived run, and make it again.
    """
    wanted: list[str | bytes | float] = []
    for number, emission in enumerate(emissions):
        value = emission.SerializeToString(deterministic=True)
        wanted += [emission_key(emission), value, now + number * 1e-3]
    if anew:
        clear(store, run_id)
    header = [spec.SerializeToString(), repr(now), _revision(), "1" if anew else ""]
    return bool(store.call("create", run_id, *header, tracing.parent(), *wanted))


def turn(store: Store, run_id: str, state: str) -> bool:
    """Make a run `active` or `cancelled`; False if it is archived or unknown."""
    return bool(store.call("turn", run_id, state, _revision()))


def _revision() -> str:
    """Return a name that no other state of a run has."""
    return secrets.token_hex(8)
