from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from clipcurate.cli.wanted import Target, Wanted, spread
from clipcurate.datasets.request import PART_BYTES, EmissionRequest
from clipcurate.errors import InvalidInputError
from clipcurate.pools import Columns


def requests(emit: list[str] | None = None, **given: Any) -> list[EmissionRequest]:
    target = {name: given.pop(name) for name in ("t", "size", "tail_share") if name in given}
    return Wanted(emit=emit, **given).emissions(Target(**target))


@pytest.mark.parametrize(
    ("emit", "options", "expected"),
    [
        (None, {"t": 5.0}, [EmissionRequest("balanced", t=5.0)]),
        ([], {"size": 5}, [EmissionRequest("balanced", size=5)]),
        ([], {"size": 5, "t": 2.0}, [EmissionRequest("balanced", size=5, t=2.0)]),
        (["balanced"], {"tail_share": 0.1}, [EmissionRequest("balanced", tail_share=0.1)]),
        (["raw"], {}, [EmissionRequest("raw")]),
        (["none"], {}, []),
        (["none", "none"], {}, []),
        (
            ["matched", "balanced", "raw", "matched"],
            {"t": 2.0, "seed": 3, "round": 1, "part_bytes": 9},
            [
                EmissionRequest("matched", seed=3, round=1, part_bytes=9),
                EmissionRequest("balanced", t=2.0, seed=3, round=1, part_bytes=9),
                EmissionRequest("raw", seed=3, round=1, part_bytes=9),
            ],
        ),
        (
            ["matched", "balanced", "raw"],
            {"t": 2.0, "semantics": "metaclip2"},
            [
                EmissionRequest("matched", semantics="metaclip2"),
                EmissionRequest("balanced", t=2.0, semantics="metaclip2"),
                EmissionRequest("raw"),
            ],
        ),
    ],
)
def test_emissions(emit: Any, options: dict[str, Any], expected: list[EmissionRequest]) -> None:
    assert requests(emit, **options) == expected


def test_no_part_size_is_the_default() -> None:
    assert requests(["raw"])[0].part_bytes == PART_BYTES


@pytest.mark.parametrize(
    ("emit", "options", "message"),
    [
        (None, {}, "exactly one of --t, --size and --tail-share"),
        (["balanced"], {"t": 1.0, "tail_share": 0.3}, "exactly one"),
        (["raw"], {"t": 1.0}, "go with --emit balanced"),
        (["none"], {"tail_share": 0.1}, "go with --emit balanced"),
        (["blanced"], {}, "--emit 'blanced': known are balanced"),
        (["none", "raw"], {}, "none"),
        (None, {"t": -1.0}, "positive"),
        (None, {"t": 1.0, "seed": -1}, "seed -1"),
        (None, {"t": 1.0, "part_bytes": -1}, "part_bytes -1"),
        (None, {"t": 1.0, "semantics": "curate"}, "known: pair, metaclip2, record"),
        (None, {"size": 1, "semantics": "record"}, "may fall within a record"),
        (["raw"], {"semantics": "record"}, "--semantics goes with"),
        (["none"], {"semantics": "record"}, "--semantics goes with"),
    ],
)
def test_emissions_refused(emit: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        requests(emit, **options)


def test_a_run(tmp_path: Path) -> None:
    metadata = tmp_path / "m.txt"
    metadata.write_text("a\na\n")
    wanted = Wanted(text_column=["alt", "title"], uid_column="id", dedupe=True, task_rows=5)
    request = wanted.run(["s3://b/*"], [str(metadata)], str(tmp_path))
    assert request.columns == Columns("alt", uid="id", more_texts=("title",))
    assert request.metadata["all"].entries == ("a",)
    assert (request.task_rows, request.pool, request.dedup) == (5, ["s3://b/*"], "")


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()

    @app.command()
    @spread
    def command(folder: str, *, target: Target, wanted: Wanted, last: bool = False) -> None:
        typer.echo(repr((folder, target, wanted, last)))

    return app


def test_each_field_is_an_option(app: typer.Typer) -> None:
    arguments = ["f", "--t-max", "3", "--emit", "raw", "--emit", "matched", "--dedupe", "--last"]
    done = CliRunner().invoke(app, arguments)
    expected = ("f", Target(t=3.0), Wanted(emit=["raw", "matched"], dedupe=True), True)
    assert done.output == f"{expected!r}\n"


def test_a_misspelt_option_names_its_neighbours(app: typer.Typer) -> None:
    done = CliRunner().invoke(app, ["f", "--dedub", "url"])
    assert done.exit_code == 2
    assert "--dedup, --dedupe" in done.output
