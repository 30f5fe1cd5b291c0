"""`clipcurate train`: datasets in, a trained CLIP out, on this machine."""

import signal
from typing import Annotated

import typer

from clipcurate.cli import options as opt
from clipcurate.cli.training_plan import show_plan
from clipcurate.errors import InvalidInputError
from clipcurate.training.config import config_for
from clipcurate.training.launch import LocalLauncher, TrainJob
from clipcurate.training.mixing import weighted

STOPPED = 130


def train(
    datasets: Annotated[
        list[str] | None,
        typer.Argument(metavar="[DATASET]...", help="Folders of emitted datasets with images."),
    ] = None,
    output: Annotated[str, typer.Option("--output", help="Folder (or URL) of this training.")] = "",
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
    weights: Annotated[
        str, typer.Option("--weights", help="Of several datasets, their shares in order: 3,1.")
    ] = "",
    nproc: Annotated[int, typer.Option("--nproc", min=1, help="Processes; one per GPU.")] = 1,
    restarts: Annotated[
        int, typer.Option("--restarts", min=0, help="How often all start again if one dies.")
    ] = 3,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only say what memory and time it would take.")
    ] = False,
    gpu: Annotated[str, typer.Option("--gpu", help="With --plan: kind, e.g. h100; or cpu.")] = (
        "h100"
    ),
    gpus: Annotated[int, typer.Option("--gpus", min=1, help="With --plan: how many.")] = 8,
    efficiency: Annotated[
        float | None, typer.Option("--efficiency", help="With --plan: share of the peak attained.")
    ] = None,
    price: Annotated[
        float, typer.Option("--price", min=0, help="With --plan: what a GPU costs an hour.")
    ] = 0.0,
) -> None:
    """Train CLIP from scratch, or go on from the newest checkpoint; prints the folder."""
    overrides = opt.settings_of("--set", settings)
    overrides |= {"online": "true"} if online else {}
    overrides |= {"t_schedule": t_schedule} if t_schedule else {}
    if plan:
        show_plan(config_for(preset, overrides), gpu, gpus, efficiency, price)
        return
    if not (datasets and output):
        raise InvalidInputError("training takes a dataset's folder and --output; or --plan")
    evaluation = opt.absolute(eval_url) if eval_url else ""
    sources = weighted([opt.absolute(dataset) for dataset in datasets], weights)
    job = TrainJob(sources, preset, opt.absolute(output), overrides, evaluation)
    _run(job, LocalLauncher(nproc, restarts))


def _run(job: TrainJob, launcher: LocalLauncher) -> None:
    """Train until the end or a signal."""
    training = launcher.start(job)
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
