import io

from rich.console import Console

from clipcurate.report.figure1 import Accuracy, Figure1, Training
from demo.show import BAR_WIDTH, show_bars, show_table


def figure() -> Figure1:
    raw = Training("raw", 1_000, 5_000, {"all": Accuracy(0.2, 100), "tail": Accuracy(0.1, 50)})
    best = Training("balanced", 400, 5_000, {"all": Accuracy(0.4, 100), "tail": Accuracy(0.0, 50)})
    return Figure1([raw, best], chance=0.05)


def test_the_table_shows_every_number() -> None:
    console = Console(file=io.StringIO(), width=120)
    show_table(figure(), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(word in text for word in ("1,000", "5,000", "20.0±4.0", "40.0±4.9", "chance"))


def test_the_longest_bar_fills_the_width_and_the_others_are_in_proportion() -> None:
    console = Console(file=io.StringIO(), width=120)
    show_bars(figure(), console)
    bars = [line.count("█") for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert bars == [0, BAR_WIDTH // 2, BAR_WIDTH, 0, BAR_WIDTH // 4, 0]
