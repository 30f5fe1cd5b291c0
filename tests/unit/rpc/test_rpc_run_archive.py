import gzip
import json
from pathlib import Path

import pytest

from clipcurate.errors import NotFoundError, StorageError
from clipcurate.rpc.references import reference
from clipcurate.rpc.run_archive import load_run
from clipcurate.rpc.v1 import ledger_pb2 as pb
from clipcurate.storage import publish_bytes

TASK = {"task": {"run_id": "r", "stage": "STAGE_MATCH"}, "state": "TASK_STATE_QUARANTINED"}


def stored(folder: Path, version: int = 1) -> pb.ObjectRef:
    header = {"format": version, "run": {"run_id": "r", "state": "RUN_STATE_DONE", "pairs": "7"}}
    lines = [header, TASK | {"error": "no ünit"}, TASK | {"failures": 2}]
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    return reference(str(folder), publish_bytes(gzip.compress(content), str(folder), "a", ".gz"))


def test_an_archived_run_is_as_it_was(tmp_path: Path) -> None:
    ref = stored(tmp_path)
    assert load_run(ref) == pb.Run(run_id="r", state=pb.RUN_STATE_DONE, pairs=7)


def test_another_version_and_other_bytes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="format 2 is not 1"):
        load_run(stored(tmp_path, version=2))
    ref = stored(tmp_path)
    Path(ref.url).write_bytes(gzip.compress(b"{}"))
    with pytest.raises(StorageError, match="recorded hash"):
        load_run(ref)
    Path(ref.url).unlink()
    with pytest.raises(NotFoundError, match="no such file"):
        load_run(ref)
