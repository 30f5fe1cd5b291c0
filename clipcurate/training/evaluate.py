"""Evaluation of a model: zero-shot classification, and retrieval among a dataset's own pairs."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from clipcurate import storage
from clipcurate.datasets.images import ImageIndex, image_of, tar_samples
from clipcurate.errors import DatasetError, InvalidInputError, NotFoundError
from clipcurate.training import metrics, order
from clipcurate.training.compat import open_clip
from clipcurate.training.crops import decode_image
from clipcurate.training.model import Tokenize

BATCH = 256
Item = TypeVar("Item")


@dataclass(frozen=True)
class Encoder:
    """A model with its tokenizer; images pass open_clip's own evaluation transform."""

    model: nn.Module
    tokenize: Tokenize
    image_size: int

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return next(self.model.parameters()).device

    @torch.no_grad()
    def images(self, images: Iterable[Image.Image]) -> Tensor:
        """Return the images' features, each row of norm 1, float32 on the CPU."""
        config = open_clip.transform.PreprocessCfg(size=self.image_size)
        transform = open_clip.transform.image_transform_v2(config, is_train=False)
        self.model.eval()
        return self._encoded(self.model.encode_image, map(transform, images))

    @torch.no_grad()
    def texts(self, texts: Iterable[str]) -> Tensor:
        """Return the texts' features, each row of norm 1, float32 on the CPU."""
        self.model.eval()
        return self._encoded(self.model.encode_text, (self.tokenize([text])[0] for text in texts))

    @torch.no_grad()
    def classifier(self, classnames: Sequence[str], templates: Sequence[str]) -> Tensor:
        """Return one weight per class, shape (dimensions, classes), by open_clip's ensemble."""
        self.model.eval()
        fill = [lambda name, template=t: template.replace("{c}", name) for t in templates]
        weights: Tensor = open_clip.build_zero_shot_classifier(
            self.model, self.tokenize, classnames, fill, device=self.device
        )
        return weights.float().cpu()

    def _encoded(self, encode: Any, inputs: Iterable[Tensor]) -> Tensor:
        chunks = [
            nn.functional.normalize(encode(torch.stack(chunk).to(self.device)).float(), dim=-1)
            for chunk in _chunks(inputs, BATCH)
        ]
        return torch.cat(chunks).cpu()


def zero_shot(encoder: Encoder, url: str) -> dict[str, Any]:
    """Classify an evaluation set in CLIP_benchmark's webdataset layout.

    The folder `url` holds `classnames.txt`, `zeroshot_classification_templates.txt` ("{c}" stands
    for the class), tars (there or in `test/`) of `<key>.<image>` with `<key>.cls`, and optionally
    `class_groups.txt`, one name per class.

    Raises:
        InvalidInputError: the folder lacks one of these, or they contradict each other.
        DatasetError: an image cannot be decoded, or a label is not that of a class.
    """
    classnames = _lines(url, "classnames.txt")
    templates = _lines(url, "zeroshot_classification_templates.txt")
    groups = _class_groups(url, len(classnames))
    weights = encoder.classifier(classnames, templates)
    labels, predicted = [], []
    for chunk in _chunks(_labelled_images(url, len(classnames)), BATCH):
        labels += [label for _, label in chunk]
        predicted.append((encoder.images(image for image, _ in chunk) @ weights).argmax(dim=1))
    return metrics.classification(
        torch.cat(predicted).numpy(), np.array(labels, np.int64), classnames, groups
    )


def retrieval(encoder: Encoder, index: ImageIndex, size: int, seed: int = 0) -> dict[str, Any]:
    """Return recall at 1, 5, 10 among the texts of `size` images (or of all, if fewer).

    A text that several images share is one candidate, right for each of them.
    """
    numbers = order.evaluation_sample(index.counts, seed, size)
    decoded = [(decode_image(sample.image), sample.texts) for sample in index.samples(numbers)]
    usable = [(image, texts) for image, texts in decoded if image is not None]
    columns = {text: i for i, text in enumerate(dict.fromkeys(t for _, ts in usable for t in ts))}
    relevant = np.zeros((len(usable), len(columns)), dtype=np.bool_)
    for row, (_, texts) in enumerate(usable):
        relevant[row, [columns[text] for text in texts]] = True
    similarity = encoder.images(image for image, _ in usable) @ encoder.texts(columns).T
    figures = metrics.retrieval(similarity.numpy(), relevant)
    return {"images": len(usable), "texts": len(columns), **figures}


def _labelled_images(url: str, classes: int) -> Iterator[tuple[Image.Image, int]]:
    for tar in _tars(url):
        with storage.open_read(tar) as file:
            for key, parts in tar_samples(file, tar):
                label = _label(parts, classes, f"{tar}: sample {key!r}")
                image = decode_image(image_of(parts) or b"")
                if image is None:
                    raise DatasetError(f"{tar}: sample {key!r} has no image that can be decoded")
                yield image, label


def _label(parts: dict[str, bytes], classes: int, where: str) -> int:
    try:
        label = int(parts["cls"])
    except (KeyError, ValueError) as error:
        raise DatasetError(f"{where} has no class number in a .cls file") from error
    if not 0 <= label < classes:
        raise DatasetError(f"{where}: class {label} is not within the {classes} of classnames.txt")
    return label


def _tars(url: str) -> list[str]:
    fs, path = storage.locate(url)
    for folder, url_of_folder in ((path, url), (f"{path}/test", storage.join(url, "test"))):
        names = [str(found).rpartition("/")[2] for found in fs.glob(f"{folder}/*.tar")]
        if names:
            in_order = sorted(names, key=lambda name: (len(name), name))
            return [storage.join(url_of_folder, name) for name in in_order]
    raise InvalidInputError(f"{url}: no *.tar with images to evaluate on")


def _class_groups(url: str, classes: int) -> list[str] | None:
    if not storage.exists(storage.join(url, "class_groups.txt")):
        return None
    groups = _lines(url, "class_groups.txt")
    if len(groups) != classes:
        raise InvalidInputError(f"{url}: {len(groups)} class groups for {classes} classes")
    return groups


def _lines(url: str, name: str) -> list[str]:
    path = storage.join(url, name)
    try:
        lines = [line.strip() for line in storage.read_bytes(path).decode().splitlines()]
    except (NotFoundError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path}: not a readable text file ({error})") from error
    if not any(lines):
        raise InvalidInputError(f"{path}: empty")
    return [line for line in lines if line]


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
