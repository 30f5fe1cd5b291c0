"""A training's scalars for TensorBoard: `tensorboard --logdir OUTPUT/training`.

Every process that trains writes an event file of its own into `tensorboard/` of the training's
folder. One that resumes says from which step on earlier files are void, so curves have no loops.
"""

import importlib.util
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipcurate import storage
from clipcurate.errors import StorageError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger(__name__)

FOLDER = "tensorboard"
UPLOAD_SECONDS = 60.0
"""How often the file is copied to storage that cannot append to files."""

TAGS = {
    "loss": "train/loss",
    "lr": "train/lr",
    "logit_scale": "train/logit_scale",
    "grad_norm": "train/grad_norm",
    "pairs_per_second": "speed/pairs_per_second",
    "mfu": "speed/mfu",
}
"""Figures of a step, by their name in `metrics.jsonl`, and where TensorBoard shows them."""


def available() -> bool:
    """Say whether the package `tensorboard` is installed."""
    return importlib.util.find_spec("tensorboard") is not None


class Events:
    """Writes event files into a training's folder. Without `tensorboard`, does nothing."""

    def __init__(self, output_url: str, upload_seconds: float = UPLOAD_SECONDS) -> None:
        self._folder = storage.join(output_url, FOLDER)
        self._is_local = storage.is_local(output_url)
        self._upload_seconds = upload_seconds
        self._uploaded = time.monotonic()
        self._writer: SummaryWriter | None = None
        self._path: Path | None = None

    def add_step(self, figures: Mapping[str, Any]) -> None:
        """Add the figures of a step; the first step makes what is known of later ones void."""
        writer = self._writer_from(figures["step"])
        if writer is None:
            return
        for name, tag in TAGS.items():
            if name in figures:
                writer.add_scalar(tag, figures[name], figures["step"])
        if time.monotonic() - self._uploaded >= self._upload_seconds:
            self._flush()

    def add_evaluation(self, step: int, evaluation: Mapping[str, Any]) -> None:
        """Add every number of an evaluation, under its path in the JSON."""
        writer = self._writer_from(step)
        if writer is None:
            return
        for path, number in numbers(evaluation):
            writer.add_scalar(f"evaluation/{path}", number, step)

    def close(self) -> None:
        """Write what is left."""
        if self._writer is None:
            return
        self._flush()
        self._writer.close()
        if not self._is_local and self._path is not None:
            shutil.rmtree(self._path)

    def _writer_from(self, step: int) -> "SummaryWriter | None":
        if self._writer is None and available():
            from torch.utils.tensorboard import SummaryWriter

            self._path = self._local_folder()
            self._writer = SummaryWriter(str(self._path), purge_step=step, flush_secs=30)
        return self._writer

    def _local_folder(self) -> Path:
        if self._is_local:
            return Path(storage.locate(self._folder)[1])
        return Path(tempfile.mkdtemp(prefix="clipcurate-events-"))

    def _flush(self) -> None:
        assert self._writer is not None
        assert self._path is not None
        self._writer.flush()
        self._uploaded = time.monotonic()
        if not self._is_local:
            self._upload(self._path)

    def _upload(self, folder: Path) -> None:
        """Copy what is written; what storage refuses goes with the next copy."""
        try:
            for path in folder.iterdir():
                storage.write_bytes(storage.join(self._folder, path.name), path.read_bytes())
        except StorageError as error:
            log.warning("cannot copy events: %s", error)


def numbers(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers of nested dictionaries with their paths; lists and texts are left out."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{path}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{path}{name}", float(value)
