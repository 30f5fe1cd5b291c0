"""Every `clipcurate …` in the documentation is a command line that the program takes."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from clipcurate.cli.app import app
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")),
         *sorted((ROOT / "docs" / "operations").glob("*.md"))]  # fmt: skip
BEFORE = re.compile(r"^(?:.*(?:\| |&& |; |-- |\$\())?(?:clipcurate|--rm client) ")
"""What stands before the program's arguments: nothing, or a command that runs it."""
AFTER = re.compile(r"\s(?:\||>|<|&|#|;)|\)(?=\s|$)")
MANY = 30


def blocks(page: str) -> Iterator[str]:
    """Yield the lines of code of a page, continued ones as one."""
    code = re.findall(r"^```(?:sh|console)\n(.*?)^```", page, flags=re.S | re.M)
    code += re.findall(r"(?:^ {4}.*\n)+", page, flags=re.M)
    for block in code:
        for line in block.replace("\\\n", " ").splitlines():
            yield line.strip().removeprefix("$ ")


def documented() -> list[tuple[str, str]]:
    """Return (page, arguments) of each command line."""
    found = []
    for path in PAGES:
        for line in blocks(path.read_text()):
            if begin := BEFORE.match(line):
                arguments = AFTER.split(f"{line[begin.end() :]} ", maxsplit=1)[0]
                found.append((str(path.relative_to(ROOT)), arguments.strip()))
    return found


def idle(command: Any) -> Any:
    """Return a command, or a group of them, that parses what it is given and then does nothing."""
    for inner in getattr(command, "commands", {}).values():
        idle(inner)
    if not hasattr(command, "commands"):
        command.callback = lambda **_: None
    return command


def status(arguments: str) -> object:
    """Return the exit status of parsing a command line."""
    with pytest.raises(SystemExit) as end:
        idle(typer.main.get_command(app)).main(shlex.split(arguments), prog_name="clipcurate")
    return end.value.code


@pytest.mark.parametrize(("page", "arguments"), documented())
def test_documented_commands_are_taken(page: str, arguments: str) -> None:
    assert status(arguments) == 0


def test_there_are_many() -> None:
    assert len(documented()) > MANY
    assert {page for page, _ in documented()} >= {
        "README.md", "docs/cli.md", "docs/operations/from-an-empty-cluster.md"}  # fmt: skip


@pytest.mark.parametrize("wrong", ["runn", "submit --pool a", "plan --polo a", "train --gpus many"])
def test_a_wrong_one_would_be_found(wrong: str) -> None:
    assert status(wrong) == 2
