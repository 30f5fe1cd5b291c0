"""Batches for training: decoded, cropped and tokenised, each a pure function of its step."""

import io
import logging
import math
import threading
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from clipcurate.datasets.images import ImageIndex
from clipcurate.errors import InvalidInputError, TrainingError
from clipcurate.training import order
from clipcurate.training.config import DataConfig, TrainConfig
from clipcurate.training.model import Tokenize

log = logging.getLogger(__name__)

# The channel statistics of the original CLIP, as open_clip's evaluation transform uses them.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

# torchvision's RandomResizedCrop gives up after ten boxes that do not fit, and takes the centre.
CROP_ATTEMPTS = 10

# Distinct texts whose tokens are kept: tokenising costs more than cropping a small image.
CACHED_TEXTS = 1 << 16

Box = tuple[int, int, int, int]
Decoded = tuple[Image.Image, tuple[str, ...]]


@dataclass(frozen=True)
class Batch:
    """One rank's share of a step's input, of B/R pairs.

    `images` is uint8 of shape (B/R, H, W, 3), `tokens` int64 of shape (B/R, context length),
    `replaced` the number of broken images whose place another one took.
    """

    images: Tensor
    tokens: Tensor
    replaced: int


def normalise(images: Tensor) -> Tensor:
    """Turn uint8 (B, H, W, 3) into float32 (B, 3, H, W) with CLIP's channel statistics."""
    channels_first = images.permute(0, 3, 1, 2).contiguous().float().div_(255)
    mean = torch.tensor(MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(STD, device=images.device).view(3, 1, 1)
    return channels_first.sub_(mean).div_(std)


def decode_image(data: bytes) -> Image.Image | None:
    """Return the image as RGB, or None if it cannot be decoded."""
    try:
        image: Image.Image = Image.open(io.BytesIO(data))
        if image.mode == "P":  # Pillow warns about palettes with transparency, but drops it too
            image = image.convert("RGBA")
        return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def crop_box(width: int, height: int, config: DataConfig, uniforms: npt.NDArray[np.float64]) -> Box:
    """Return RandomResizedCrop's box (left, top, right, bottom).

    Args:
        width: of the image, in pixels.
        height: of the image, in pixels.
        config: bounds of area and aspect ratio.
        uniforms: numbers in [0, 1), shape (CROP_ATTEMPTS, 4).
    """
    log_ratio = math.log(config.crop_ratio_max)
    for area, ratio, x, y in uniforms.tolist():
        target = width * height * (config.crop_scale_min + (1 - config.crop_scale_min) * area)
        aspect = math.exp(log_ratio * (2 * ratio - 1))
        w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(x * (width - w + 1)), int(y * (height - h + 1))
            return left, top, left + w, top + h
    return _central_box(width, height, config.crop_ratio_max)


def _central_box(width: int, height: int, ratio_max: float) -> Box:
    w, h = width, height
    if width / height > ratio_max:
        w = round(height * ratio_max)
    elif height / width > ratio_max:
        h = round(width * ratio_max)
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


class ImageCache:
    """The decoded images of a dataset, kept in memory as far as a budget of bytes allows."""

    def __init__(self, index: ImageIndex, budget: int) -> None:
        self._index = index
        self._left = budget
        self._kept: dict[int, Decoded | None] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._index)

    def get(self, number: int) -> Decoded | None:
        """Return image and texts of a sample, or None if its image is broken (logged once)."""
        if number in self._kept:
            return self._kept[number]
        sample = self._index.read(number)
        image = decode_image(sample.image)
        if image is None:
            log.warning(
                "%s: image %s is broken; the next one stands in", self._index.url, sample.key
            )
        decoded = None if image is None else (image, sample.texts)
        self._keep(number, decoded)
        return decoded

    def _keep(self, number: int, decoded: Decoded | None) -> None:
        size = 4 * decoded[0].width * decoded[0].height if decoded else 0
        with self._lock:
            if size <= self._left and number not in self._kept:
                self._left -= size
                self._kept[number] = decoded


class TrainingData:
    """The batches of a training by step: the same for every run with the same settings.

    Rank r of R gets its own pairs; those of all ranks together do not depend on R.
    """

    def __init__(
        self,
        index: ImageIndex,
        config: TrainConfig,
        tokenize: Tokenize,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if config.data.batch_size % world_size:
            raise InvalidInputError(
                f"{world_size} ranks cannot share a batch of {config.data.batch_size} evenly; "
                "choose a batch_size that they divide"
            )
        self._rank, self._world_size = rank, world_size
        self._images = ImageCache(index, config.runtime.cache_bytes)
        self._config = config
        self._tokens = lru_cache(CACHED_TEXTS)(lambda text: tokenize([text])[0])

    def batches(self, first: int, last: int) -> Generator[Batch, None, None]:
        """Yield the batches of steps first … last-1 in order, made ahead by threads."""
        runtime = self._config.runtime
        ahead: deque[Future[Batch]] = deque()
        pool = ThreadPoolExecutor(runtime.decode_threads, thread_name_prefix="batches")
        try:
            for step in range(first, last):
                ahead.append(pool.submit(self.batch, step))
                if len(ahead) > runtime.prefetch_batches:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def batch(self, step: int) -> Batch:
        """Return the batch of step `step`."""
        config = self._config
        both = order.batch_samples(len(self._images), config.data.batch_size, config.seed, step)
        samples, epochs = (values[self._rank :: self._world_size] for values in both)
        visits = [
            self._visit(*visit) for visit in zip(samples.tolist(), epochs.tolist(), strict=True)
        ]
        pixels, tokens, skipped = zip(*visits, strict=True)
        replaced = sum(count > 0 for count in skipped)
        return Batch(torch.from_numpy(np.stack(pixels)), torch.stack(tokens), replaced)

    def _visit(self, number: int, epoch: int) -> tuple[npt.NDArray[np.uint8], Tensor, int]:
        """Return pixels, tokens and how many broken images were passed over."""
        for skipped in range(len(self._images)):
            image_number = (number + skipped) % len(self._images)
            decoded = self._images.get(image_number)
            if decoded is not None:
                image, texts = decoded
                choice = order.text_choice(len(texts), self._config.seed, epoch, image_number)
                pixels = self._crop(image, epoch, image_number)
                return pixels, self._tokens(texts[choice]), skipped
        raise TrainingError("none of the dataset's images can be decoded")

    def _crop(self, image: Image.Image, epoch: int, number: int) -> npt.NDArray[np.uint8]:
        config, size = self._config, self._config.model.image_size
        uniforms = order.crop_uniforms(config.seed, epoch, number, CROP_ATTEMPTS * 4)
        box = crop_box(*image.size, config.data, uniforms.reshape(-1, 4))
        return np.asarray(image.crop(box).resize((size, size), Image.Resampling.BICUBIC))
