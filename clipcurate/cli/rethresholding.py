"""`clipcurate rethreshold`: a smaller dataset from a dataset, without the pool."""

from typing import Annotated

import typer
from rich.console import Console

from clipcurate.cli.progress import warn_of_zeros
from clipcurate.cli.wanted import Target, spread
from clipcurate.datasets import manifest
from clipcurate.datasets import rethreshold as subsets
from clipcurate.errors import InvalidInputError

console = Console(stderr=True)


@spread
def rethreshold(
    dataset: Annotated[str, typer.Argument(help="A balanced or matched dataset's folder.")],
    *,
    target: Target,
    output: Annotated[
        str, typer.Option("--output", help="The subset's folder; else one beside the dataset.")
    ] = "",
) -> None:
    """Make the nested subset of a dataset for a smaller target; prints its folder."""
    if not target.given:
        raise InvalidInputError("say how much the subset keeps: --t, --size or --tail-share")
    with console.status("cutting") as status:
        folder = subsets.rethreshold(dataset, output=output, progress=status.update, **vars(target))
    cuts = manifest.load(folder).cuts
    warn_of_zeros({name: cut["t"] for name, cut in cuts.items()}, console)
    print(folder)
