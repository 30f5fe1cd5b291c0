"""Takes runs that have ended out of Redis: first a marker in their place, then all their keys."""

from clipcurate.errors import ConflictError, InvalidInputError
from clipcurate.rpc.v1 import ledger_pb2 as pb
from services.counter.store import Store, literal, run_prefix

CHUNK = 1000
"""Keys per step of the search, and per deletion: either takes Redis about a millisecond."""
ARCHIVABLE = (pb.RUN_STATE_DONE, pb.RUN_STATE_CANCELLED)


def archive(store: Store, run: pb.Run, revision: str, ref: pb.ObjectRef) -> None:
    """Put a marker in place of a run, then delete what else Redis holds of it.

    Repeatable: a run that is archived already keeps its marker, and what is left of it goes.

    Args:
        store: the connection.
        run: the run as it stands.
        revision: of the run that the archive was made from.
        ref: the archive.

    Raises:
        InvalidInputError: the archive is not named.
        ConflictError: the run has not ended, or it is not the one that the archive was made from.
    """
    if not (ref.url and ref.hash):
        raise InvalidInputError("an archive is named by its url and its hash")
    if run.state != pb.RUN_STATE_ARCHIVED:
        _require_ended(run)
        marker = marker_of(run, ref).SerializeToString()
        if not store.call("archive", run.run_id, revision, marker):
            raise ConflictError(
                f"run {run.run_id} has changed since its archive was made; archive it again"
            )
    clear(store, run.run_id)


def _require_ended(run: pb.Run) -> None:
    if run.state not in ARCHIVABLE:
        state = pb.RunState.Name(run.state).removeprefix("RUN_STATE_").lower()
        raise ConflictError(
            f"run {run.run_id} is {state}: archive it when it is done, or cancel it first"
        )


def marker_of(run: pb.Run, ref: pb.ObjectRef) -> pb.Run:
    """Return what stays in Redis of a run: its emissions and figures, and where the rest is."""
    marker = pb.Run()
    marker.CopyFrom(run)
    for field in ("spec", "problems"):
        marker.ClearField(field)
    marker.state = pb.RUN_STATE_ARCHIVED
    marker.archive.CopyFrom(ref)
    return marker


def archived_error(marker: pb.Run) -> ConflictError:
    """Return the error that says where an archived run is, and what can be done with it."""
    return ConflictError(
        f"run {marker.run_id} is archived in {marker.archive.url}: `clipcurate watch` shows its "
        "end; `plan`, `verify` and `recount` work on its folder; `run` or `submit` with --anew "
        "does all of it again"
    )


def clear(store: Store, run_id: str) -> None:
    """Delete all keys of an archived run but its marker, as long as it is archived.

    May end anywhere and be repeated: the marker is older than every deletion. In a cluster the
    last step finds out whether all keys were on this node: those of a slot on its way are not.
    """
    prefix, script = run_prefix(run_id), store.scripts["clear"]
    marker = f"{prefix}run".encode()
    with store.node(run_id) as node:
        cursor, keys = -1, ()
        while script.call(node, [prefix], keys) and cursor:
            cursor, found = node.scan(max(cursor, 0), match=f"{literal(prefix)}*", count=CHUNK)
            keys = tuple(key for key in found if key != marker)
