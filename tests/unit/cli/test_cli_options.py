from pathlib import Path
from typing import Any

import pytest

from clipcurate.cli.options import (
    absolute,
    columns_of,
    run_request,
    state_folder,
    train_request,
)
from clipcurate.cli.submission import TrainRequest
from clipcurate.errors import InvalidInputError, MetadataError, NotFoundError
from clipcurate.pools import Columns


def test_columns() -> None:
    assert columns_of(None, "u", None, "i", None) == Columns(url="u", uid="i")
    assert columns_of([], None, "k", None, "l") == Columns(key="k", lang="l")
    several = columns_of(["alt", "title", "x"], None, None, None, None)
    assert several == Columns("alt", more_texts=("title", "x"))


def test_training() -> None:
    assert train_request("", None, "") is None
    assert train_request("", [], "") is None
    assert train_request("tiny", None, "") == TrainRequest("tiny", {})
    found = train_request("tiny", ["lr=1e-3", "note=a=b", "empty="], "s3://b/eval")
    assert found == TrainRequest("tiny", {"lr": "1e-3", "note": "a=b", "empty": ""}, "s3://b/eval")


@pytest.mark.parametrize(
    ("preset", "settings", "eval_url", "message"),
    [
        ("", ["lr=1"], "", "go with --train"),
        ("", None, "eval", "go with --train"),
        ("tiny", ["lr"], "", "name=value, not 'lr'"),
        ("tiny", ["lr=1", "wd 2"], "", "name=value, not 'wd 2'"),
    ],
)
def test_training_refused(preset: str, settings: Any, eval_url: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        train_request(preset, settings, eval_url)


def test_local_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert absolute("pool/*.parquet") == f"{tmp_path}/pool/*.parquet"
    assert absolute("~/pool") == "/home/someone/pool"
    assert absolute("/pool") == "/pool"
    for url in ("s3://bucket/pool", "memory://x", "zip::s3://b/a.zip"):
        assert absolute(url) == url


def test_a_run_request(tmp_path: Path) -> None:
    path = tmp_path / "m.txt"
    path.write_text("a\nb\n")
    columns = Columns(text="caption")
    request = run_request(["s3://b/*"], columns, [str(path)], False, str(tmp_path), task_rows=5)
    assert request.pool == ["s3://b/*"]
    assert request.metadata["all"].entries == ("a", "b")
    assert (request.columns, request.task_rows) == (columns, 5)
    path.write_text("a\na\n")
    with pytest.raises(MetadataError, match="1 repeats 0"):
        run_request([], columns, [str(path)], False, str(tmp_path))
    assert run_request([], columns, [str(path)], True, "o").metadata["all"].entries == ("a",)
    with pytest.raises(NotFoundError, match="missing"):
        run_request([], columns, [str(tmp_path / "missing")], False, "o")


def test_the_state_lies_beside_a_local_output(tmp_path: Path) -> None:
    assert state_folder(None, str(tmp_path)) == tmp_path / ".clipcurate"
    assert state_folder(tmp_path / "state", "s3://b/out") == tmp_path / "state"
    with pytest.raises(InvalidInputError, match="--state"):
        state_folder(None, "memory://out")
