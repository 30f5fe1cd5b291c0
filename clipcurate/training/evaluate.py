"""Evaluation of a model: zero-shot classification, and retrieval between images and texts."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from clipcurate import storage
from clipcurate.datasets.images import ImageIndex
from clipcurate.errors import DatasetError
from clipcurate.training import eval_sets, metrics, order
from clipcurate.training.compat import open_clip
from clipcurate.training.crops import decode_image
from clipcurate.training.eval_sets import LabelledSet
from clipcurate.training.evaluable import require_something
from clipcurate.training.model import Tokenize

BATCH = 256
Item = TypeVar("Item")


def _go_on() -> None:
    """Do nothing before a batch."""


@dataclass(frozen=True)
class Encoder:
    """A model with its tokenizer; images pass open_clip's own evaluation transform.

    `transform` is that of a model that open_clip loaded; None: CLIP's at `image_size`.
    `before_batch` is called before each batch of images, texts or classes; what it raises ends the
    evaluation.
    """

    model: nn.Module
    tokenize: Tokenize
    image_size: int
    transform: Callable[[Image.Image], Tensor] | None = None
    before_batch: Callable[[], None] = _go_on

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return next(self.model.parameters()).device

    @torch.no_grad()
    def images(self, images: Iterable[Image.Image]) -> Tensor:
        """Return the images' features, each row of norm 1, float32 on the CPU."""
        transform = self.transform or _transform(self.image_size)
        self.model.eval()
        return self._encoded(self.model.encode_image, map(transform, images))

    @torch.no_grad()
    def texts(self, texts: Iterable[str]) -> Tensor:
        """Return the texts' features, each row of norm 1, float32 on the CPU."""
        self.model.eval()
        return self._encoded(self.model.encode_text, (self.tokenize([text])[0] for text in texts))

    @torch.no_grad()
    def classifier(
        self, classnames: Sequence[str], templates: Sequence[Callable[[str], str]]
    ) -> Tensor:
        """Return one weight per class, shape (dimensions, classes), by open_clip's ensemble."""
        self.model.eval()
        weights: Tensor = open_clip.build_zero_shot_classifier(
            self.model, self._tokenize_batch, classnames, list(templates), device=self.device
        )
        return weights.float().cpu()

    def _tokenize_batch(self, texts: Sequence[str]) -> Tensor:
        self.before_batch()
        return self.tokenize(texts)

    def _encoded(self, encode: Any, inputs: Iterable[Tensor]) -> Tensor:
        def features(chunk: list[Tensor]) -> Tensor:
            self.before_batch()
            encoded = encode(torch.stack(chunk).to(self.device)).float()
            return nn.functional.normalize(encoded, dim=-1)

        return torch.cat([features(chunk) for chunk in _chunks(inputs, BATCH)]).cpu()


def _transform(image_size: int) -> Callable[[Image.Image], Tensor]:
    config = open_clip.transform.PreprocessCfg(size=image_size)
    transform: Callable[[Image.Image], Tensor] = open_clip.transform.image_transform_v2(
        config, is_train=False
    )
    return transform


def zero_shot(encoder: Encoder, data: LabelledSet | str) -> dict[str, Any]:
    """Classify the images of a set by its classes' names; a URL is opened by `open_set`.

    Raises:
        InvalidInputError: there is no set at that URL, or it is incomplete.
        DatasetError: an image cannot be decoded, or a label is not that of a class.
    """
    data = eval_sets.open_set(data) if isinstance(data, str) else data
    weights = encoder.classifier(data.classnames, data.templates)
    best = min(metrics.TOP, len(data.classnames))
    labels, predicted = [], []
    for chunk in _chunks(data.images(), BATCH):
        labels += [label for _, label in chunk]
        scores = encoder.images(image for image, _ in chunk) @ weights
        predicted.append(scores.topk(best, dim=1).indices)
    if not labels:
        raise DatasetError(f"{data.name}: not one image to evaluate on")
    figures = metrics.classification(
        torch.cat(predicted).numpy(), np.array(labels, np.int64), data.classnames, data.groups
    )
    return {"metric": data.metric, "value": figures[data.metric], **figures}


def retrieval(encoder: Encoder, index: ImageIndex, size: int, seed: int = 0) -> dict[str, Any]:
    """Return recall at 1, 5, 10 among the texts of `size` images (or of all, if fewer).

    A text that several images share is one candidate, right for each of them.
    """
    numbers = order.evaluation_sample(index.counts, seed, size)
    decoded = ((decode_image(sample.image), sample.texts) for sample in index.samples(numbers))
    return _retrieval(encoder, ((i, texts) for i, texts in decoded if i is not None))


def retrieval_among(encoder: Encoder, url: str) -> dict[str, Any]:
    """Return recall at 1, 5, 10 in a set of CLIP_benchmark's webdataset layout for retrieval.

    Its tars hold `<key>.<image>` and `<key>.txt`, a caption per line.

    Raises:
        InvalidInputError: there are no tars.
        DatasetError: a sample has no image that can be decoded, or no caption.
    """
    return _retrieval(
        encoder, ((image, _captions(parts, at)) for at, image, parts in eval_sets.samples(url))
    )


@dataclass(frozen=True)
class Task:
    """What there is to do at a URL: the set is opened, and nothing of it is decoded yet.

    Attributes:
        name: "retrieval" or "zero-shot classification".
        measure: returns a model's figures. Raises DatasetError: an image or label is broken.
    """

    name: str
    measure: Callable[[Encoder], dict[str, Any]]


def open_task(url: str, *, templates: str = "", metric: str = "", images: int = 1_000) -> Task:
    """Open what lies at `url`, to evaluate on it.

    Retrieval on an emitted dataset (of `images` images) and on tars without classnames.txt; else
    zero-shot classification.

    Raises:
        InvalidInputError: nothing to evaluate on, or an unknown name of templates or metric.
        DatasetError: an emitted dataset contradicts its manifest.
    """
    require_something(url)
    if storage.exists(storage.join(url, "manifest.json")):
        return Task("retrieval", partial(retrieval, index=ImageIndex.open(url), size=images))
    named = storage.exists(storage.join(url, "classnames.txt"))
    if not named and eval_sets.is_webdataset(url):
        return Task("retrieval", partial(retrieval_among, url=url))
    data = eval_sets.open_set(url, templates, metric)
    return Task("zero-shot classification", partial(zero_shot, data=data))


def evaluate_on(
    encoder: Encoder, url: str, *, templates: str = "", metric: str = "", images: int = 1_000
) -> dict[str, Any]:
    """Evaluate on what lies at `url`, and say by which `task`; see `open_task`.

    Raises:
        InvalidInputError: nothing to evaluate on, or an unknown name of templates or metric.
        DatasetError: an image or label is broken.
    """
    task = open_task(url, templates=templates, metric=metric, images=images)
    return {"task": task.name, **task.measure(encoder)}


def _captions(parts: dict[str, bytes], where: str) -> tuple[str, ...]:
    lines = parts.get("txt", b"").decode(errors="replace").splitlines()
    captions = tuple(line.strip() for line in lines if line.strip())
    if not captions:
        raise DatasetError(f"{where} has no captions in a .txt file")
    return captions


def _retrieval(
    encoder: Encoder, pairs: Iterable[tuple[Image.Image, Sequence[str]]]
) -> dict[str, Any]:
    features, texts = [], []
    for chunk in _chunks(pairs, BATCH):
        features.append(encoder.images(image for image, _ in chunk))
        texts += [of_image for _, of_image in chunk]
    if not texts:
        raise DatasetError("not one image that can be decoded to retrieve among")
    columns = {text: i for i, text in enumerate(dict.fromkeys(t for ts in texts for t in ts))}
    relevant = np.zeros((len(texts), len(columns)), dtype=np.bool_)
    for row, of_image in enumerate(texts):
        relevant[row, [columns[text] for text in of_image]] = True
    similarity = torch.cat(features) @ encoder.texts(columns).T
    figures = metrics.retrieval(similarity.numpy(), relevant)
    return {"images": len(texts), "texts": len(columns), **figures}


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
