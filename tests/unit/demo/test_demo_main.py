from pathlib import Path

import pytest

from demo.__main__ import main


def test_a_folder_that_is_no_demos_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    assert main(["--output", str(tmp_path)]) == 1
    assert "choose another --output" in capsys.readouterr().out
    assert (tmp_path / "precious.txt").read_text() == "mine"
