"""`python -m demo [--output FOLDER] [--quick] [--server ADDRESS]`: Figure 1 in miniature.

Draws a small pool, curates it three ways (raw, matched, balanced) with `clipcurate run`, trains
the same tiny CLIP on each for the same number of seen pairs, and shows their zero-shot accuracy on
a class-balanced held-out set, whichever way it came out.
"""

import argparse
import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from clipcurate.errors import ClipcurateError, ConflictError
from clipcurate.report.figure1 import Figure1, draw_figure1
from demo import evalset, metadata, pipeline, pool, show
from demo.config import FULL, QUICK, DemoConfig

MARKER = "demo.json"
"""Holds the configuration; a folder with it is a demo's and may be made anew."""
DRAWN = "drawn"
"""There once the pool, the metadata and the held-out set are."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the demo and returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="folder to make")
    parser.add_argument("--quick", action="store_true", help="the same path, too short to learn")
    parser.add_argument(
        "--server", default="", help="running services to use, which see the folder by this name"
    )
    options = parser.parse_args(arguments)
    console = Console()
    try:
        config = QUICK if options.quick else FULL
        run_demo(config, options.output.absolute(), console, options.server)
    except ClipcurateError as error:
        console.print(f"[red]error:[/red] {error}", highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("\nstopped; the same command starts anew")
        return 130
    return 0


def run_demo(config: DemoConfig, output: Path, console: Console, server: str = "") -> None:
    """Makes everything in `output`, a demo's folder or one that does not exist yet."""
    started = time.monotonic()
    if not (server and _is_drawn(config, output)):
        _prepare_folder(config, output)
        _draw(config, output, console)
    _step(console, "3/4 curating the pool three ways and training on each")
    command = " ".join(pipeline.command(config, output, server))
    console.print(command, style="dim", highlight=False, soft_wrap=True)
    results = pipeline.run(config, output, server)
    _step(console, "4/4 comparing")
    figure = pipeline.figure_of(results, output)
    seconds = time.monotonic() - started
    _save(figure, config, seconds, output)
    show.show_table(figure, console)
    show.show_bars(figure, console)
    _say_where(results, output, seconds, console)


def _draw(config: DemoConfig, output: Path, console: Console) -> None:
    """Makes what goes into the pipeline."""
    _step(console, f"1/4 drawing {config.images:,} pictures of {config.num_concepts} concepts")
    shards = pool.write_pool(config, output / "pool")
    console.print(f"    {shards} tars in {output / 'pool'}", highlight=False)
    _step(console, "2/4 writing the metadata and a class-balanced held-out set")
    count = metadata.write_metadata(config.names, output / "metadata.json")
    pictures = evalset.write_eval(config, output / "eval")
    console.print(f"    {count} entries; {pictures:,} held-out pictures", highlight=False)
    (output / DRAWN).touch()


def _is_drawn(config: DemoConfig, output: Path) -> bool:
    """Say whether the inputs are there: services that know their run go on with it."""
    wanted = json.dumps(dataclasses.asdict(config), indent=2)
    return (output / DRAWN).exists() and (output / MARKER).read_text() == wanted


def _prepare_folder(config: DemoConfig, output: Path) -> None:
    """Makes the folder empty but for its marker; refuses a folder that is not a demo's."""
    if output.exists() and not (output / MARKER).exists():
        raise ConflictError(f"{output}: exists and is no demo's; choose another --output")
    if output.exists():
        shutil.rmtree(output)
    output.mkdir(parents=True)
    (output / MARKER).write_text(json.dumps(dataclasses.asdict(config), indent=2))


def _save(figure: Figure1, config: DemoConfig, seconds: float, output: Path) -> None:
    """Writes the figure as numbers and as pictures."""
    tree = {**figure.to_dict(), "config": dataclasses.asdict(config), "seconds": round(seconds)}
    (output / "figure1.json").write_text(json.dumps(tree, indent=2), encoding="utf-8")
    draw_figure1(figure, output / "figure1.png", output / "figure1.svg")


def _step(console: Console, text: str) -> None:
    console.print(f"\n[bold green]==>[/bold green] [bold]{text}[/bold]", highlight=False)


def _say_where(
    results: dict[str, pipeline.Result], output: Path, seconds: float, console: Console
) -> None:
    """Prints where things lie and what to try next."""
    balanced, matched = results["balanced"], results["matched"].manifest["totals"]["kept"]
    lines = [f"\nDone in {seconds / 60:.1f} minutes. Where things lie:"]
    lines += [f"  {output / name}" for name in ("pool", "eval", "metadata.json")]
    lines += [f"  {result.dataset}\n    model: {result.training}" for result in results.values()]
    lines += [f"  {output / 'figure1'}.{{json,png,svg}}", "Next, try:"]
    clipcurate = Path(sys.executable).with_name("clipcurate")
    lines += [
        f"  {clipcurate} verify {balanced.dataset} --run {output / 'run'}",
        f"  {clipcurate} plan {output / 'run'} --size {matched // 2}",
        f"  echo 'a photo of an umbrella' | {clipcurate} match --metadata {output}/metadata.json",
    ]
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    raise SystemExit(main())
