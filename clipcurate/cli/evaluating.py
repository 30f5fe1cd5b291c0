"""`clipcurate evaluate`: what a trained CLIP can do, as a table and as JSON."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from clipcurate import storage
from clipcurate.cli import options as opt

Figures = dict[str, Any]
WIDTH = 120


def evaluate(
    model: Annotated[
        str,
        typer.Argument(help="A training's folder, a checkpoint, or what open_clip loads."),
    ],
    data: Annotated[
        list[str],
        typer.Argument(help="Sets to classify or retrieve in: folders, zip archives, datasets."),
    ],
    templates: Annotated[
        str, typer.Option("--templates", help="openai, simple or plain, instead of the set's own.")
    ] = "",
    metric: Annotated[
        str, typer.Option("--metric", help="accuracy or macro, instead of the set's own.")
    ] = "",
    images: Annotated[
        int, typer.Option("--images", min=1, help="Images to retrieve among in a dataset.")
    ] = 1_000,
    output: Annotated[str, typer.Option("--output", help="Write the figures here, as JSON.")] = "",
) -> None:
    """Classify without training (zero-shot), and retrieve images by texts and texts by images."""
    from clipcurate.training.evaluate import evaluate_on
    from clipcurate.training.load import load_encoder

    encoder = load_encoder(opt.absolute(model) if Path(model).exists() else model)
    found: dict[str, Figures] = {}
    for url in map(opt.absolute, data):
        found[url] = evaluate_on(encoder, url, templates=templates, metric=metric, images=images)
    if output:
        text = json.dumps({"model": model, "results": found}, indent=2, ensure_ascii=False)
        storage.write_bytes(opt.absolute(output), text.encode())
    _show({u: f for u, f in found.items() if "value" in f}, _classified, CLASSIFICATION)
    _show({u: f for u, f in found.items() if "value" not in f}, _retrieved, RETRIEVAL)


CLASSIFICATION = ("zero-shot", "images", "classes", "metric", "value", "top-1", "top-5", "chance")
RETRIEVAL = ("retrieval", "images", "texts", "direction", "R@1", "R@5", "R@10", "chance@1")


def _show(found: dict[str, Figures], rows: Any, headings: tuple[str, ...]) -> None:
    if not found:
        return
    table = Table()
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number in (0, 3) else "right")
    for url, figures in found.items():
        for row in rows(url.rstrip("/").rpartition("/")[2], figures):
            table.add_row(*row)
    wide = Console()
    wide.width = max(wide.width, WIDTH)
    wide.print(table)


def _classified(name: str, figures: Figures) -> list[tuple[str, ...]]:
    top5 = _percent(figures["top5"]) if "top5" in figures else ""
    classes = f"{round(1 / figures['chance']):,}"
    shown = {"accuracy": "top-1", "macro": "mean per class"}[figures["metric"]]
    values = (_percent(figures[key]) for key in ("value", "accuracy"))
    return [(name, f"{figures['images']:,}", classes, shown, *values, top5,
             _percent(figures["chance"]))]  # fmt: skip


def _retrieved(name: str, figures: Figures) -> list[tuple[str, ...]]:
    def row(direction: str, shown: str) -> tuple[str, ...]:
        of = figures[direction]
        recalls = (_percent(of[key]) for key in ("r@1", "r@5", "r@10", "chance@1"))
        return (name, f"{figures['images']:,}", f"{figures['texts']:,}", shown, *recalls)

    return [row("image_to_text", "image → text"), row("text_to_image", "text → image")]


def _percent(share: float) -> str:
    return f"{share:.1%}"
