"""What a training tells of itself while it runs, in its folder. Needs no torch.

Rank 0 replaces `progress.json` every few seconds, wherever it runs; who started it reads that, so
that nothing but the storage lies between them. `failure.json` says why the last attempt failed.
"""

import dataclasses
import json
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from clipcurate import storage
from clipcurate.errors import ClipcurateError, NotFoundError, StorageError

log = logging.getLogger(__name__)

WRITE_SECONDS = 1.0
"""The least time between two writes."""


@dataclass(frozen=True)
class Standing:
    """Where a training stands: figures of its last logged step, and its latest evaluation.

    `mfu` is the share of the device's peak that the model's own operations make; 0 if not known.
    """

    step: int = 0
    seen_pairs: int = 0
    loss: float = 0.0
    lr: float = 0.0
    logit_scale: float = 0.0
    grad_norm: float = 0.0
    pairs_per_second: float = 0.0
    mfu: float = 0.0
    evaluation: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, figures: Mapping[str, Any]) -> "Standing":
        """Return the standing that a line of `metrics.jsonl` or `progress.json` tells of."""
        names = {part.name for part in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in figures.items() if name in names})


def standing(output_url: str) -> Standing | None:
    """Return where the training in a folder stands; None if it has taken no step there."""
    figures = _read(output_url, "progress.json")
    return None if figures is None else Standing.of(figures)


def summary(output_url: str, training_id: str) -> dict[str, Any] | None:
    """Return the summary of a training that has finished in a folder; None if it has not."""
    found = _read(output_url, "summary.json")
    return found if found and found["training_id"] == training_id else None


def failure(output_url: str) -> str:
    """Return why the last attempt in a folder failed; "" if it did not, or could not say."""
    return str((_read(output_url, "failure.json") or {}).get("error", ""))


def tell_failure(output_url: str, error: Exception) -> None:
    """Leave word of why this attempt failed. Where the storage is what fails, log that.

    An error that is not ours leaves the word of another rank as it is: of a rank that fails, the
    others see only that it has gone.
    """
    ours = isinstance(error, ClipcurateError)
    text = str(error) if ours else f"{type(error).__name__}: {error}"
    try:
        if ours or not failure(output_url):
            _write(output_url, "failure.json", {"error": text})
    except ClipcurateError as other:
        log.warning("cannot leave word of the failure: %s", other)


def forget_failure(output_url: str) -> None:
    """Remove the word that an earlier attempt left. Where storage refuses, log that."""
    url = storage.join(output_url, "failure.json")
    try:
        if storage.exists(url):
            fs, path = storage.locate(url)
            with storage.writing(url):
                fs.rm_file(path)
    except StorageError as error:
        log.warning("an earlier failure stays on record: %s", error)


class ProgressFile:
    """Replaces `progress.json` in the background with the newest figures; training never waits.

    What storage refuses is logged and tried again with the next figures: progress is no reason to
    stop a training.
    """

    def __init__(self, output_url: str, seconds: float = WRITE_SECONDS) -> None:
        self._output = output_url
        self._seconds = seconds
        self._newest: dict[str, Any] | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="progress", daemon=True)

    def __enter__(self) -> Self:
        """Begin to write."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write what is newest, and end."""
        self._closing.set()
        self._thread.join()

    def tell(self, figures: Mapping[str, Any]) -> None:
        """Have these figures written soon."""
        with self._lock:
            self._newest = dict(figures)

    def _work(self) -> None:
        while not self._closing.wait(self._seconds):
            self._write_newest()
        self._write_newest()

    def _write_newest(self) -> None:
        with self._lock:
            figures, self._newest = self._newest, None
        if figures is None:
            return
        try:
            _write(self._output, "progress.json", figures)
        except ClipcurateError as error:
            log.warning("cannot tell progress: %s", error)


def _write(output_url: str, name: str, value: Mapping[str, Any]) -> None:
    storage.write_bytes(storage.join(output_url, name), json.dumps(value).encode())


def _read(output_url: str, name: str) -> dict[str, Any] | None:
    try:
        return dict(json.loads(storage.read_bytes(storage.join(output_url, name))))
    except NotFoundError:
        return None
