"""Published sets as their archives unpack: each is known by the name of its folder."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from clipcurate.errors import DatasetError, InvalidInputError
from clipcurate.training.eval_sets import packed
from clipcurate.training.eval_sets.labelled import (
    Labelled,
    LabelledSet,
    metric_of,
    shown,
    templates_of,
)

Images = Callable[[], Iterator[Labelled]]
Opened = tuple[Sequence[str], Images]


def open_folder(folder: Path) -> LabelledSet:
    """Open the test images of a set whose folder has one of the names in FOLDERS.

    Raises:
        InvalidInputError: the folder does not hold the set's files.
    """
    name, read = FOLDERS[folder.name]
    try:
        names, images = read(folder)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise InvalidInputError(
            f"{folder}: not the files of {name} as they are published ({error})"
        ) from error
    return LabelledSet(name, tuple(names), templates_of("plain"), metric_of(name), images)


def _packed(read: Callable[..., packed.Packed], *details: Any) -> Callable[[Path], Opened]:
    """Return how to open a set of a few files."""

    def opened(folder: Path) -> Opened:
        found = read(folder, *details)

        def images() -> Iterator[Labelled]:
            for pixels, label in zip(found.pixels, found.labels.tolist(), strict=True):
                yield Image.fromarray(pixels), label

        return found.classnames, images

    return opened


def _torchvision(kind: str, folder: Path) -> Opened:
    """Open a set of one file per image by torchvision's reader, which takes the parent folder."""
    import torchvision

    data: Any = getattr(torchvision.datasets, kind)(str(folder.parent), split="test")

    def images() -> Iterator[Labelled]:
        for number in range(len(data)):
            try:
                image, label = data[number]
            except OSError as error:
                raise DatasetError(
                    f"{folder}: test image {number} cannot be read ({error})"
                ) from error
            yield image.convert("RGB"), int(label)

    return [shown(str(name)) for name in data.classes], images


_CIFAR10 = ("test_batch", "labels", "batches.meta", "label_names")
_CIFAR100 = ("test", "fine_labels", "meta", "fine_label_names")

FOLDERS: dict[str, tuple[str, Callable[[Path], Opened]]] = {
    "cifar-10-batches-py": ("CIFAR-10", _packed(packed.cifar_pickles, *_CIFAR10)),
    "cifar-10-batches-bin": (
        "CIFAR-10",
        _packed(packed.cifar_binary, "test_batch.bin", "batches.meta.txt", 1),
    ),
    "cifar-100-python": ("CIFAR-100", _packed(packed.cifar_pickles, *_CIFAR100)),
    "cifar-100-binary": (
        "CIFAR-100",
        _packed(packed.cifar_binary, "test.bin", "fine_label_names.txt", 2),
    ),
    "stl10_binary": ("STL-10", _packed(packed.stl10)),
    "fgvc-aircraft-2013b": ("FGVCAircraft", partial(_torchvision, "FGVCAircraft")),
    "oxford-iiit-pet": ("OxfordIIITPet", partial(_torchvision, "OxfordIIITPet")),
    "food-101": ("Food101", partial(_torchvision, "Food101")),
}
"""The name of each set, and how to open its folder."""
