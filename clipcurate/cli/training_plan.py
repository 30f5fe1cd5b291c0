"""`clipcurate train --plan`: memory and time of a training, before there is a dataset."""

import os
from typing import Any

from rich.console import Console
from rich.table import Table

from clipcurate.errors import InvalidInputError
from clipcurate.training.config import TrainConfig

WIDTH = 120
COLUMNS = 4
"""Numbers of GPUs in the table of costs: the one asked for, and twice as many each time."""


def show_plan(
    config: TrainConfig, kind: str, devices: int, efficiency: float | None, price: float
) -> None:
    """Print what a training takes on `devices` of a kind, and on more of them.

    Raises:
        InvalidInputError: unknown kind of device, or one of the numbers makes no sense.
    """
    from clipcurate.training import planning

    share = planning.EFFICIENCY if efficiency is None else efficiency
    device = _device(kind)
    planner = planning.Planner(config, device, share)
    console = Console()
    console.width = max(console.width, WIDTH)
    console.print(_facts(config, planner, device, share))
    console.print(_memory(planner.forecast(devices)))
    counts = [devices * 2**n for n in range(COLUMNS)]
    fitting = [n for n in counts if config.data.lanes % n == 0]
    console.print(_costs([planner.forecast(n) for n in fitting], price))


def _device(kind: str) -> Any:
    from clipcurate.training.flops import DEVICES, Device

    if kind == "cpu":
        from clipcurate.training.products import product_rate

        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return Device("this CPU", product_rate("cpu") / 1e12, memory, "products measured now")
    if kind not in DEVICES:
        raise InvalidInputError(f"unknown --gpu {kind!r}; choose one of {', '.join(DEVICES)}, cpu")
    return DEVICES[kind]


def _facts(config: TrainConfig, planner: Any, device: Any, share: float) -> Table:
    rows = {
        "model": f"{config.model.name}, {planner.parameters / 1e6:,.1f} M parameters",
        "training": f"{config.total_steps:,} steps of {config.data.batch_size:,} pairs",
        "model FLOPs": f"{planner.pair_flops / 1e9:,.1f} GFLOP per pair, "
        f"texts of {planner.tokens} tokens as processed",
        "device": f"{device.name}: {device.tflops:,.1f} TFLOP/s, {device.memory / 1e9:,.1f} GB "
        f"({device.source})",
        "assumed": f"{share:.0%} of that rate (--efficiency)",
    }
    table = Table("", "", show_header=False, title=f"Training {config.preset}")
    for label, value in rows.items():
        table.add_row(label, value)
    return table


def _memory(forecast: Any) -> Table:
    title = f"Memory of each of {forecast.devices}"
    if forecast.way is None:
        table = Table("does not fit", title=title)
        table.add_row("not even with micro_batch=1 and activation_checkpointing=true")
        return table
    way = forecast.way
    settings = f"micro_batch={way.micro_batch}" if way.repeats > way.checkpointing else "whole"
    checkpointing = ", activation_checkpointing=true" if way.checkpointing else ""
    table = Table("part", "GB", title=title, caption=f"{settings}{checkpointing}")
    for part, size in vars(way.memory).items():
        table.add_row(part.replace("_", " "), f"{size / 1e9:,.2f}")
    table.add_section()
    table.add_row("with reserve and fragmentation", f"{way.memory.total / 1e9:,.2f}")
    return table


def _costs(forecasts: list[Any], price: float) -> Table:
    headings = ["devices", "fits by", "pairs/s", "loader MB/s", "days", "device hours"]
    table = Table(*headings, *(["cost"] if price else []), title="Time")
    for one in forecasts:
        if one.way is None:
            table.add_row(str(one.devices), "does not fit")
            continue
        way = f"micro_batch {one.way.micro_batch:,}"
        way += ", checkpointing" if one.way.checkpointing else ""
        rate = (f"{one.pairs_per_second:,.0f}", f"{one.loader_bytes / 1e6:,.0f}")
        spent = (f"{one.hours / 24:,.1f}", f"{one.device_hours:,.0f}")
        cost = [f"{one.device_hours * price:,.0f}"] if price else []
        table.add_row(str(one.devices), way, *rate, *spent, *cost)
    return table
