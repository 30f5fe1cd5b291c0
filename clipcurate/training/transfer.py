"""Batches on their way to the device: arranged and copied ahead while the device computes."""

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from clipcurate.training.data import Batch
from clipcurate.training.text import Texts, Trimmer

AHEAD = 2


@dataclass(frozen=True)
class Arranged:
    """A batch whose texts are arranged; `images` is still uint8 of shape (b, H, W, 3).

    `replaced` and `digest` are the batch's.
    """

    images: Tensor
    texts: Texts
    parts: int
    replaced: int
    digest: int


@dataclass(frozen=True)
class Arranger:
    """How batches are split: `micro_batch` pairs at most, texts in `groups` per micro-batch."""

    trimmer: Trimmer
    micro_batch: int
    groups: int

    def arrange(self, batch: Batch) -> Arranged:
        """Return a batch with its texts arranged for its micro-batches."""
        pairs = len(batch.images)
        parts = -(-pairs // self.micro_batch) if self.micro_batch else 1
        texts = self.trimmer.arrange(batch.tokens, parts, self.groups)
        return Arranged(batch.images, texts, parts, batch.replaced, batch.digest)


def arranged(
    batches: Iterable[Batch], arranger: Arranger, device: torch.device
) -> Iterator[Arranged]:
    """Yield the batches on `device`; for a GPU, a thread copies ahead on a stream of its own."""
    if device.type != "cuda":
        yield from map(arranger.arrange, batches)
        return
    with closing(_copied_ahead(batches, arranger, device)) as copied:
        yield from copied


def _copied_ahead(
    batches: Iterable[Batch], arranger: Arranger, device: torch.device
) -> Generator[Arranged, None, None]:
    ready: queue.Queue[tuple[Arranged, torch.cuda.Event] | BaseException | None]
    ready = queue.Queue(AHEAD)
    stopped = threading.Event()
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    feeder = threading.Thread(
        target=_feed, args=(batches, arranger, device, stream, ready, stopped), daemon=True
    )
    feeder.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            batch, copied = item
            torch.cuda.current_stream(device).wait_event(copied)
            _used_on_current_stream(batch, device)
            yield batch
    finally:
        stopped.set()
        _drain(ready, feeder)


def _feed(
    batches: Iterable[Batch],
    arranger: Arranger,
    device: torch.device,
    stream: torch.cuda.Stream,
    ready: "queue.Queue[tuple[Arranged, torch.cuda.Event] | BaseException | None]",
    stopped: threading.Event,
) -> None:
    end: BaseException | None = None
    try:
        with torch.cuda.stream(stream):
            for batch in batches:
                ready.put(_copied(arranger.arrange(batch), device, stream))
                if stopped.is_set():
                    return
    except BaseException as error:  # noqa: BLE001 - it is raised again where the batches are used
        end = error
    ready.put(end)


def _copied(
    batch: Arranged, device: torch.device, stream: torch.cuda.Stream
) -> tuple[Arranged, torch.cuda.Event]:
    images = batch.images.pin_memory().to(device, non_blocking=True)
    texts = batch.texts.pinned().to(device)
    return replace(batch, images=images, texts=texts), stream.record_event()


def _used_on_current_stream(batch: Arranged, device: torch.device) -> None:
    """Keep the allocator from handing out a batch's memory before the computation is done."""
    stream = torch.cuda.current_stream(device)
    for tensor in (batch.images, batch.texts.inverse, *batch.texts.groups):
        if tensor is not None:
            tensor.record_stream(stream)


def _drain(ready: "queue.Queue[Any]", feeder: threading.Thread) -> None:
    while feeder.is_alive():
        try:
            ready.get(timeout=0.05)
        except queue.Empty:
            continue
