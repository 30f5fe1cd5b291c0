"""Batches for training: decoded, cropped and tokenised, each a pure function of its step."""

import itertools
import json
import logging
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipcurate.datasets.images import ImageIndex, parse_sample
from clipcurate.errors import TrainingError
from clipcurate.hashing import hash_bytes
from clipcurate.training import order
from clipcurate.training.block_cache import BlockCache
from clipcurate.training.config import TrainConfig
from clipcurate.training.crops import CROP_ATTEMPTS, cropped
from clipcurate.training.model import Tokenize
from clipcurate.training.thinning import require_thinnable
from clipcurate.training.visits import STAND_INS, Chunk, Mix, RankVisits, Visit

log = logging.getLogger(__name__)

# The channel statistics of the original CLIP, as open_clip's evaluation transform uses them.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

# Visits that one thread makes together: enough that handing them out costs nothing.
CHUNK = 16

MASK64 = 2**64 - 1


@dataclass(frozen=True)
class Batch:
    """One rank's share of a step's input, of B/R pairs.

    `images` is uint8 of shape (B/R, H, W, 3), `tokens` int64 of shape (B/R, context length),
    `replaced` the number of broken images whose place another one took. `digest` says which (image,
    text) pairs these are, in any order: the ranks' digests of a step, added modulo 2⁶⁴, do not
    depend on the number of ranks.
    """

    images: Tensor
    tokens: Tensor
    replaced: int
    digest: int


def normalise(images: Tensor) -> Tensor:
    """Turn uint8 (B, H, W, 3) into float32 (B, 3, H, W) with CLIP's channel statistics."""
    channels_first = images.permute(0, 3, 1, 2).contiguous().float().div_(255)
    mean = torch.tensor(MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(STD, device=images.device).view(3, 1, 1)
    return channels_first.sub_(mean).div_(std)


@dataclass(frozen=True)
class _Shown:
    """What a visit has shown: text and digest of the pair, and whether in another's place."""

    text: str
    digest: int
    replaced: bool = False


class TrainingData:
    """The batches of a training by step: the same for every run with the same settings.

    Rank r of R gets its own pairs; those of all ranks together do not depend on R.
    """

    def __init__(
        self,
        index: ImageIndex | Mix,
        config: TrainConfig,
        tokenize: Tokenize,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Prepare the batches.

        Raises:
            InvalidInputError: a dataset cannot be thinned as the settings want it.
        """
        self._mix = index if isinstance(index, Mix) else Mix((index,))
        for one in self._mix.indexes:
            require_thinnable(one.url, one.manifest, config.data)
        self._config = config
        self._tokenize = tokenize
        self._rank, self._world_size = rank, world_size
        self._warned: set[tuple[int, int]] = set()
        # By epoch: a crop may need less than all of an image, and what an epoch shows must follow
        # from the settings, not from the epochs that this process has seen.
        self._all_broken: set[tuple[int, int, int]] = set()

    def batches(self, first: int, last: int) -> Generator[Batch, None, None]:
        """Yield the batches of steps first … last-1 in order, made ahead by threads.

        Raises:
            InvalidInputError: the ranks cannot share the lanes, or cache_bytes is too little.
            TrainingError: no image of a block and of those after it can be decoded.
        """
        runtime = self._config.runtime
        visits = RankVisits(self._mix, self._config, self._rank, self._world_size)
        ahead: deque[_Unfinished] = deque()
        pool = ThreadPoolExecutor(runtime.decode_threads, thread_name_prefix="batches")
        try:
            for step in range(first, last):
                ahead.append(self._begin(visits, step, pool))
                if len(ahead) > runtime.prefetch_batches:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
            visits.cache.close()

    def _begin(self, visits: RankVisits, step: int, pool: ThreadPoolExecutor) -> "_Unfinished":
        size = self._config.model.image_size
        rows = self._config.data.batch_size // self._world_size
        batch = _Unfinished(np.empty((rows, size, size, 3), np.uint8), [])
        for chunk in visits.step(step, CHUNK):
            batch.chunks.append(pool.submit(self._make, visits, chunk, batch.images))
        return batch

    def _make(self, visits: RankVisits, chunk: Chunk, images: npt.NDArray[np.uint8]) -> "_Made":
        try:
            shown = [self._show(visits, visit, images[visit.row]) for visit in chunk.visits]
        finally:
            chunk.release()
        return _Made(shown, self._tokenize([one.text for one in shown]))

    def _show(self, visits: RankVisits, visit: Visit, out: npt.NDArray[np.uint8]) -> _Shown:
        """Fill in the pixels of a visit, or of the next image in its epoch that can be decoded."""
        for one in itertools.chain((visit,), visits.stand_ins(visit)):
            shown = self._show_of_block(visits.cache, one, out)
            if shown is not None:
                return shown if one is visit else replace(shown, replaced=True)
        raise TrainingError(
            f"{self._mix.indexes[visit.dataset].where(visit.block)}: none of the images of this "
            f"block and of up to {STAND_INS} after it can be decoded; `clipcurate verify` says "
            "whether the dataset's files are as they were written: if not, restore them and train "
            "again, which goes on; if they are, leave those images out of the pool"
        )

    def _show_of_block(
        self, cache: BlockCache, visit: Visit, out: npt.NDArray[np.uint8]
    ) -> _Shown | None:
        """Show a visit, or the next image of its block; None if all that are shown are broken."""
        block, count = (visit.dataset, visit.epoch, visit.block), len(visit.chosen.images)
        if block in self._all_broken:
            return None
        with cache.lent((visit.dataset, visit.block)) as read:
            for turn in range(visit.index, visit.index + count):
                shown = self._show_image(read, replace(visit, index=turn % count), out)
                if shown is not None:
                    return replace(shown, replaced=turn > visit.index)
        self._all_broken.add(block)
        return None

    def _show_image(
        self, read: Callable[[int], bytes], visit: Visit, out: npt.NDArray[np.uint8]
    ) -> _Shown | None:
        """Show a visit; None if its image is broken."""
        index, seed = self._mix.indexes[visit.dataset], order.fold(self._config.seed, visit.dataset)
        image = int(visit.chosen.images[visit.index])
        number = index.number(visit.block, image)
        sample = parse_sample(read(image), index.where(visit.block))
        uniforms = order.crop_uniforms(seed, visit.epoch, number, CROP_ATTEMPTS * 4)
        if not cropped(sample.image, self._config.data, uniforms.reshape(-1, 4), out):
            self._warn(visit.dataset, number, f"{index.where(visit.block)}: image {sample.key}")
            return None
        texts = visit.chosen.texts_of(visit.index, sample.texts)
        text = texts[order.text_choice(len(texts), seed, visit.epoch, number)]
        return _Shown(text, _digest(visit.dataset, visit.epoch, number, text))

    def _warn(self, dataset: int, number: int, image: str) -> None:
        if (dataset, number) not in self._warned:
            self._warned.add((dataset, number))
            log.warning("%s is broken; the next one stands in", image)


def _digest(*facts: int | str) -> int:
    return int(hash_bytes(json.dumps(facts).encode())[:16], 16)


@dataclass(frozen=True)
class _Made:
    """What a chunk of consecutive rows has shown, and the tokens of its texts."""

    shown: list[_Shown]
    tokens: Tensor


@dataclass(frozen=True)
class _Unfinished:
    """A batch that threads are filling in, chunk by chunk in the order of its rows."""

    images: npt.NDArray[np.uint8]
    chunks: list[Future[_Made]]

    def result(self) -> Batch:
        """Wait for the batch."""
        made = [chunk.result() for chunk in self.chunks]
        shown = [one for chunk in made for one in chunk.shown]
        return Batch(
            torch.from_numpy(self.images),
            torch.cat([chunk.tokens for chunk in made]),
            sum(one.replaced for one in shown),
            sum(one.digest for one in shown) & MASK64,
        )
