"""Prints the figure on a terminal: a table of numbers, and bars."""

from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table

from clipcurate.report.figure1 import Figure1

BAR_WIDTH = 40
"""Characters of the longest bar."""

BAR_STYLES: tuple[str, ...] = ("bright_black", "blue", "red")
"""Colours of the bars by training."""


def show_table(figure: Figure1, console: Console) -> None:
    """Prints sizes and accuracies, chance included."""
    title = "Figure 1 in miniature: zero-shot accuracy, mean per class (%)"
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("emission", "pairs", "seen pairs", *figure.groups):
        justify: JustifyMethod = "left" if column == "emission" else "right"
        table.add_column(column, justify=justify, no_wrap=True)
    for training in figure.trainings:
        cells = [
            f"{100 * found.value:.1f}±{100 * found.standard_error:.1f}"
            for found in training.accuracies.values()
        ]
        table.add_row(training.name, f"{training.pairs:,}", f"{training.seen_pairs:,}", *cells)
    table.add_section()
    table.add_row("chance", "", "", *[f"{100 * figure.chance:.1f}"] * len(figure.groups))
    table.caption = "±: standard error from the held-out pictures; one training per emission"
    console.print(table)


def show_bars(figure: Figure1, console: Console) -> None:
    """Prints one bar per training and group, all on one scale."""
    values = [found.value for t in figure.trainings for found in t.accuracies.values()]
    longest = max([*values, figure.chance])
    width = max(len(training.name) for training in figure.trainings)
    for group in figure.groups:
        console.print(f"[bold]{group}[/bold]")
        for position, training in enumerate(figure.trainings):
            value = training.accuracies[group].value
            bar = "█" * round(BAR_WIDTH * value / longest)
            style = BAR_STYLES[position % len(BAR_STYLES)]
            console.print(
                f"  {training.name:{width}} [{style}]{bar}[/{style}] {100 * value:.1f}",
                highlight=False,
            )
