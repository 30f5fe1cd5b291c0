"""Stored objects as messages, and back."""

from clipcurate.rpc.v1 import ledger_pb2
from clipcurate.storage import StoredObject, join, read_object


def reference(folder: str, stored: StoredObject) -> ledger_pb2.ObjectRef:
    """Return where and what a stored object is."""
    return ledger_pb2.ObjectRef(url=join(folder, stored.name), size=stored.size, hash=stored.hash)


def read(ref: ledger_pb2.ObjectRef) -> bytes:
    """Return a referenced object's bytes, checked against its hash.

    Raises:
        NotFoundError: there is no such object.
        StorageError: its bytes are not what was written.
    """
    return read_object(ref.url, ref.hash)
