"""The committed stubs are what the .proto files give."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

PACKAGE = Path("clipcurate/rpc/v1")


def test_regenerating_the_stubs_changes_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHON": sys.executable}
    command = [str(ROOT / "scripts" / "protos"), str(tmp_path)]
    subprocess.run(command, check=True, env=environment, capture_output=True)
    made = {path.name: path.read_bytes() for path in (tmp_path / PACKAGE).iterdir()}
    committed = {p.name: p.read_bytes() for p in (ROOT / PACKAGE).iterdir() if p.is_file()}
    assert made == committed


def test_every_message_field_and_call_is_documented() -> None:
    undocumented = []
    for proto in sorted((ROOT / "protos" / "clipcurate" / "v1").glob("*.proto")):
        lines = proto.read_text().splitlines()
        for before, line in itertools.pairwise(lines):
            code = line.strip()
            declares = code.startswith(("message ", "enum ", "service ", "rpc ")) or (
                code.endswith(";") and " = " in code and not code.startswith("syntax")
            )
            grouped = before.strip().endswith((";", "{")) and "_UNSPECIFIED" not in code
            if declares and grouped and not _follows_a_group(lines, line):
                undocumented.append(f"{proto.name}: {code}")
    assert not undocumented


def _follows_a_group(lines: list[str], line: str) -> bool:
    """Tell fields of one documented group ("Tasks per state.", a oneof) from bare ones."""
    place = lines.index(line)
    while place and lines[place - 1].strip().endswith(";"):
        place -= 1
    return lines[place - 1].strip().startswith(("//", "oneof"))
