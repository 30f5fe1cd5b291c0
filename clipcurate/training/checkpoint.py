"""Checkpoints: a finished file or none, the last few kept, refused by another training."""

import json
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clipcurate import storage
from clipcurate.errors import TrainingError
from clipcurate.training.loop import TrainState

PREFIX, SUFFIX = "step-", ".pt"

Payload = dict[str, Any]


@dataclass(frozen=True)
class Kept:
    """Which checkpoints stay: the newest `last`, and those of every `every` steps (0: none).

    `schedule` is after how many steps each is saved. One between, saved before an evaluation or
    when asked to stop, stays until the next and drives none out.
    """

    last: int = 3
    every: int = 0
    schedule: int = 1

    def spares(self, url: str) -> bool:
        """Say whether a checkpoint stays for good."""
        return self.every > 0 and step_of(url) % self.every == 0

    def surplus(self, urls: list[str]) -> list[str]:
        """Return which of all checkpoints, given oldest first, do not stay."""
        scheduled = [url for url in urls if step_of(url) % self.schedule == 0]
        staying = {*scheduled[-self.last :], *urls[-1:]}
        return [url for url in urls if url not in staying and not self.spares(url)]


class Writer:
    """Writes checkpoints into a folder, one at a time, while training goes on."""

    def __init__(self, folder: str, description: Payload, kept: Kept) -> None:
        """Prepare to write.

        Args:
            folder: fsspec URL.
            description: `settings`, the canonical text of all that determines the training, which
                `restore` compares; and what else a reader of the file should find.
            kept: which checkpoints stay.
        """
        self._folder = folder
        self._description = description
        self._kept = kept
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def save(self, state: TrainState) -> None:
        """Take a copy of `state` and write it in the background, after the one before.

        Raises:
            StorageError: the checkpoint before could not be written.
        """
        self.wait()
        self._pending = self._thread.submit(self._write, snapshot(state) | self._description)

    def wait(self) -> None:
        """Return when everything is written. Raises StorageError if it could not be."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def close(self) -> None:
        """Finish what is under way and end the thread."""
        self._thread.shutdown()

    def _write(self, payload: Payload) -> None:
        stem = f"{PREFIX}{payload['step']:010d}"
        with storage.staged(self._folder, stem) as directory, storage.writing(self._folder):
            path = directory / stem
            torch.save(payload, path)
            storage.publish(path, self._folder, stem, SUFFIX)
        for url in self._kept.surplus(saved(self._folder)):
            fs, path_in_fs = storage.locate(url)
            fs.rm_file(path_in_fs)


def snapshot(state: TrainState) -> Payload:
    """Return a copy of `state` in CPU memory, which later steps do not change."""
    copied = {"model": state.model.state_dict(), "optimizer": state.optimizer.state_dict()}
    on_gpu = state.device.type == "cuda"
    tensors: Payload = _mapped(copied, _pinned_copy if on_gpu else Tensor.clone)
    if on_gpu:
        torch.cuda.synchronize(state.device)
    return {"step": state.step, "replaced": state.replaced, **tensors}


def _pinned_copy(tensor: Tensor) -> Tensor:
    """Start to copy a tensor into page-locked memory."""
    if not tensor.is_cuda:
        return tensor.clone()
    target = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return target.copy_(tensor, non_blocking=True)


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return nested dictionaries and lists with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value.detach())
    if isinstance(value, dict):
        return {key: _mapped(inner, change) for key, inner in value.items()}
    if isinstance(value, list):
        return [_mapped(inner, change) for inner in value]
    return value


def saved(folder: str) -> list[str]:
    """Return the URLs of the checkpoints in `folder`, oldest first."""
    fs, path = storage.locate(folder)
    names = sorted(str(found).rpartition("/")[2] for found in fs.glob(f"{path}/{PREFIX}*{SUFFIX}"))
    return [storage.join(folder, name) for name in names]


def step_of(url: str) -> int:
    """Return the step that a checkpoint's name says."""
    return int(url.rpartition("/")[2][len(PREFIX) :].partition("-")[0])


def newest(folder: str) -> str:
    """Return the URL of the newest checkpoint; "" if there is none."""
    return (saved(folder) or [""])[-1]


def restore(url: str, state: TrainState, settings: str) -> None:
    """Bring `state` to the checkpoint at `url`, which any number of processes may have written.

    Raises:
        TrainingError: the checkpoint is of other settings, or cannot be read.
    """
    payload = load(url)
    if payload["settings"] != settings:
        raise TrainingError(
            f"{url}: a checkpoint of other settings or another dataset ("
            f"{_differences(payload['settings'], settings)}); "
            "give this training an output folder of its own"
        )
    state.model.load_state_dict(payload["model"])
    state.optimizer.load_state_dict(payload["optimizer"])
    state.step, state.replaced = payload["step"], payload["replaced"]


def _differences(there: str, here: str) -> str:
    """Name the settings that differ between two canonical texts, with both values."""
    theirs, ours = (dict(_leaves(json.loads(text))) for text in (there, here))
    return "; ".join(
        f"{name}: {theirs.get(name, 'none')} there, {ours.get(name, 'none')} here"
        for name in sorted({*theirs, *ours})
        if theirs.get(name) != ours.get(name)
    )


def _leaves(settings: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested settings that are no dictionaries, with their paths."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def load(url: str) -> Payload:
    """Return what a checkpoint holds, on the CPU. Raises TrainingError: it cannot be read."""
    try:
        with storage.open_read(url) as file:
            payload: Payload = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise TrainingError(
            f"{url}: not a readable checkpoint ({error}); delete it to resume from the one before"
        ) from error
    return payload
