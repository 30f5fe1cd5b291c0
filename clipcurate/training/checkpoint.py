"""Checkpoints: a finished file or none, the last few kept, refused by another training."""

import pickle
from typing import Any

import torch

from clipcurate import storage
from clipcurate.errors import TrainingError
from clipcurate.training.loop import TrainState

PREFIX, SUFFIX = "step-", ".pt"


def save(folder: str, state: TrainState, settings: str, keep: int) -> None:
    """Write a checkpoint of `state` into `folder` and delete all but the newest `keep`.

    Args:
        folder: fsspec URL.
        state: what to save.
        settings: canonical text of everything that determines the training.
        keep: how many checkpoints stay.
    """
    payload = {
        "settings": settings,
        "step": state.step,
        "replaced": state.replaced,
        "model": state.model.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "rng": torch.get_rng_state(),
    }
    stem = f"{PREFIX}{state.step:010d}"
    with storage.staged(folder, stem) as directory, storage.writing(folder):
        path = directory / stem
        torch.save(payload, path)
        storage.publish(path, folder, stem, SUFFIX)
    for url in saved(folder)[:-keep]:
        fs, path_in_fs = storage.locate(url)
        fs.rm_file(path_in_fs)


def saved(folder: str) -> list[str]:
    """Return the URLs of the checkpoints in `folder`, oldest first."""
    fs, path = storage.locate(folder)
    names = sorted(str(found).rpartition("/")[2] for found in fs.glob(f"{path}/{PREFIX}*{SUFFIX}"))
    return [storage.join(folder, name) for name in names]


def restore(folder: str, state: TrainState, settings: str) -> bool:
    """Bring `state` to the newest checkpoint in `folder`; False if there is none.

    Raises:
        TrainingError: the checkpoint is of other settings, or cannot be read.
    """
    found = saved(folder)
    if not found:
        return False
    payload = _load(found[-1])
    if payload["settings"] != settings:
        raise TrainingError(
            f"{found[-1]}: a checkpoint of other settings or another dataset; "
            "give this training an output folder of its own"
        )
    state.model.load_state_dict(payload["model"])
    state.optimizer.load_state_dict(payload["optimizer"])
    state.step, state.replaced = payload["step"], payload["replaced"]
    torch.set_rng_state(payload["rng"])
    return True


def _load(url: str) -> dict[str, Any]:
    try:
        with storage.open_read(url) as file:
            payload: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise TrainingError(
            f"{url}: not a readable checkpoint ({error}); delete it to resume from the one before"
        ) from error
    return payload
