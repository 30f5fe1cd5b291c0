"""`clipcurate train`: a dataset in, a trained CLIP out, on this machine."""

import signal
from typing import Annotated

import typer

from clipcurate.cli import options as opt
from clipcurate.training.launch import LocalLauncher, TrainJob

STOPPED = 130


def train(
    dataset: Annotated[str, typer.Argument(help="Folder of an emitted dataset with images.")],
    output: Annotated[str, typer.Option("--output", help="Folder (or URL) of this training.")],
    preset: Annotated[str, typer.Option("--preset", help="E.g. tiny, b32_400m.")] = "tiny",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="name=value instead of the preset's.")
    ] = None,
    eval_url: opt.EvalUrl = "",
    online: Annotated[
        bool, typer.Option("--online", help="Each epoch draws its own coins; a matched dataset.")
    ] = False,
    t_schedule: Annotated[
        str, typer.Option("--t-schedule", help="t, or t by step: 0:20000,1000:50000.")
    ] = "",
    nproc: Annotated[int, typer.Option("--nproc", min=1, help="Processes; one per GPU.")] = 1,
    restarts: Annotated[
        int, typer.Option("--restarts", min=0, help="How often all start again if one dies.")
    ] = 3,
) -> None:
    """Train CLIP from scratch, or go on from the newest checkpoint; prints the folder."""
    overrides = opt.settings_of("--set", settings)
    overrides |= {"online": "true"} if online else {}
    overrides |= {"t_schedule": t_schedule} if t_schedule else {}
    evaluation = opt.absolute(eval_url) if eval_url else ""
    job = TrainJob(opt.absolute(dataset), preset, opt.absolute(output), overrides, evaluation)
    training = LocalLauncher(nproc, restarts).start(job)
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True
        training.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    training.wait()
    if stopped:
        raise typer.Exit(STOPPED)
