"""The `clipcurate` command: one module per group of verbs, one place for errors."""

import sys

import typer
from rich.console import Console
from rich.markup import escape

from clipcurate.cli import (
    archiving,
    evaluating,
    inspecting,
    planning,
    recounting,
    rethresholding,
    run,
    runs,
    training,
)
from clipcurate.errors import ClipcurateError
from clipcurate.rpc import tracing

app = typer.Typer(
    name="clipcurate",
    help="Curate CLIP training data the MetaCLIP way.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
metadata_app = typer.Typer(help="About metadata files.", no_args_is_help=True)
app.add_typer(metadata_app, name="metadata")

app.command()(run.run)
app.command()(runs.up)
app.command()(runs.submit)
app.command(name="runs")(runs.list_runs)
app.command()(runs.watch)
app.command()(runs.cancel)
app.command()(runs.retry)
app.command()(archiving.archive)
app.command()(recounting.recount)
app.command()(inspecting.match)
app.command()(planning.plan)
app.command()(inspecting.verify)
app.command()(rethresholding.rethreshold)
app.command()(training.train)
app.command()(evaluating.evaluate)
metadata_app.command(name="info")(inspecting.metadata_info)


def _warn(message: str) -> None:
    Console(stderr=True).print(message, highlight=False, markup=False, soft_wrap=True)


def main() -> None:
    """Run the command; an expected error is one line on stderr and exit status 1."""
    try:
        tracing.start("cli", _warn)
        app()
    except ClipcurateError as error:
        message = f"[red]error:[/red] {escape(str(error))}"
        Console(stderr=True).print(message, highlight=False, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
