"""The archive of a run: what only the ledger knew of it, as one object in the run's folder.

Gzipped JSON lines, messages as protobuf's JSON has them: first the format and the run, then every
task of every open stage.
"""

import gzip
import io
import json
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from clipcurate import storage
from clipcurate.errors import StorageError
from clipcurate.hashing import canonical_json
from clipcurate.rpc.clients import LedgerClient
from clipcurate.rpc.references import read, reference
from clipcurate.rpc.v1 import ledger_pb2 as pb

FORMAT = 1
STEM, SUFFIX = "archive", ".jsonl.gz"


def write_archive(ledger: LedgerClient, run: pb.Run) -> pb.ObjectRef:
    """Store a run and its tasks in the run's folder; the same run gives the same bytes.

    Args:
        ledger: who knows the tasks.
        run: a run that has ended, as the ledger gave it.

    Raises:
        StorageError: the folder cannot be written.
    """
    folder = storage.join(run.spec.output_url, "runs", run.run_id)
    with storage.staged(folder, f"{STEM}-{run.revision}") as directory:
        path = directory / STEM
        with storage.writing(folder):
            _write(path, run, ledger)
        return reference(folder, storage.publish(path, folder, STEM, SUFFIX))


def _write(path: Path, run: pb.Run, ledger: LedgerClient) -> None:
    with path.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file:
        file.write(canonical_json({"format": FORMAT, "run": _value(run)}) + b"\n")
        for stage in run.stages:
            for task in ledger.list_tasks(run.run_id, stage.stage, stage.emission_key):
                file.write(canonical_json(_value(task)) + b"\n")


def _value(message: Message) -> dict[str, Any]:
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def load_run(ref: pb.ObjectRef) -> pb.Run:
    """Return an archived run as it was.

    Raises:
        NotFoundError: there is no such object.
        StorageError: its bytes are not what was written, or of another version.
    """
    with gzip.GzipFile(fileobj=io.BytesIO(read(ref))) as file:
        header = json.loads(file.readline())
    if header["format"] != FORMAT:
        raise StorageError(
            f"{ref.url}: format {header['format']} is not {FORMAT}; use the version that wrote it"
        )
    return json_format.ParseDict(header["run"], pb.Run())
