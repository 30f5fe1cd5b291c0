"""`clipcurate rethreshold`: a smaller dataset from a dataset, without the pool."""

from typing import Annotated

import typer
from rich.console import Console

from clipcurate.datasets import rethreshold as subsets

console = Console(stderr=True)


def rethreshold(
    dataset: Annotated[str, typer.Argument(help="A balanced or matched dataset's folder.")],
    t: Annotated[float, typer.Option("--t", help="The new t; at most the dataset's own.")],
    output: Annotated[
        str, typer.Option("--output", help="The subset's folder; else one beside the dataset.")
    ] = "",
) -> None:
    """Make the nested subset of a dataset at a smaller t; prints its folder."""
    with console.status("cutting") as status:
        folder = subsets.rethreshold(dataset, t, output, status.update)
    print(folder)
