"""Sets whose publishers pack all images into a few files: CIFAR-10, CIFAR-100 and STL-10.

Only the files of the test images are needed, unlike for torchvision's readers, which want all of
the archive. Formats: cs.toronto.edu/~kriz/cifar.html and cs.stanford.edu/~acoates/stl10.
"""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clipcurate.training.eval_sets.labelled import read_lines, shown

U8 = npt.NDArray[np.uint8]
CIFAR_SHAPE = (-1, 3, 32, 32)
STL_SHAPE = (-1, 3, 96, 96)
_NO_CIFAR = (pickle.UnpicklingError, EOFError, TypeError, IndexError, AttributeError)


@dataclass(frozen=True)
class Packed:
    """Class names, labels of shape (images,), and pixels of shape (images, height, width, 3).

    Raises ValueError: they contradict one another.
    """

    classnames: tuple[str, ...]
    labels: U8
    pixels: U8

    def __post_init__(self) -> None:
        """Hold the labels against the names and the images."""
        if len(self.labels) != len(self.pixels):
            raise ValueError(f"{len(self.labels)} labels for {len(self.pixels)} images")
        if len(self.labels) and int(self.labels.max()) >= len(self.classnames):
            raise ValueError(f"a label beyond the {len(self.classnames)} classes")


def cifar_pickles(folder: Path, images: str, labels: str, meta: str, names: str) -> Packed:
    """Read the "python version" of CIFAR.

    Args:
        folder: of the files.
        images: the file of the test images.
        labels: key of their labels.
        meta: the file of the class names.
        names: key of the class names.

    Raises:
        OSError, ValueError, KeyError: a file is missing, or is something else.
    """
    batch, about = _unpickled(folder / images), _unpickled(folder / meta)
    classnames = tuple(shown(name.decode()) for name in about[names.encode()])
    pixels = np.asarray(batch[b"data"], np.uint8).reshape(CIFAR_SHAPE).transpose(0, 2, 3, 1)
    return Packed(classnames, np.asarray(batch[labels.encode()], np.uint8), pixels)


def cifar_binary(folder: Path, images: str, names: str, label_bytes: int) -> Packed:
    """Read the "binary version" of CIFAR: per image its labels, the finest last, and its pixels.

    Raises:
        OSError, ValueError: a file is missing, or is something else.
    """
    rows = np.fromfile(folder / images, np.uint8).reshape(-1, label_bytes + 3 * 32 * 32)
    pixels = rows[:, label_bytes:].reshape(CIFAR_SHAPE).transpose(0, 2, 3, 1)
    classnames = tuple(map(shown, read_lines(str(folder), names)))
    return Packed(classnames, rows[:, label_bytes - 1], pixels)


def stl10(folder: Path) -> Packed:
    """Read STL-10: images column by column, labels from 1.

    Raises:
        OSError, ValueError: a file is missing, or is something else.
    """
    pixels = np.fromfile(folder / "test_X.bin", np.uint8).reshape(STL_SHAPE).transpose(0, 3, 2, 1)
    labels = np.fromfile(folder / "test_y.bin", np.uint8)
    if len(labels) and not labels.min():
        raise ValueError("a label of 0 where they count from 1")
    return Packed(tuple(read_lines(str(folder), "class_names.txt")), labels - 1, pixels)


def _unpickled(path: Path) -> dict[bytes, Any]:
    with path.open("rb") as file:
        try:
            content = _ArraysOnly(file, encoding="bytes").load()
            return dict(content)
        except _NO_CIFAR as error:
            raise ValueError(f"{path.name} is no pickle of CIFAR: {error}") from error


class _ArraysOnly(pickle.Unpickler):
    """Makes plain values and arrays, and refuses all else: a pickle could run anything."""

    def find_class(self, module: str, name: str) -> Any:
        """Return one of numpy's three ways to an array. Raises UnpicklingError."""
        if module.partition(".")[0] == "numpy":
            known = {"_reconstruct": _empty, "ndarray": np.ndarray, "dtype": _dtype}
            if name in known:
                return known[name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _empty(kind: type[np.ndarray[Any, Any]], *_: Any) -> npt.NDArray[Any]:
    """Return the array that the pickle then fills."""
    return kind.__new__(kind, (0,), np.uint8)


def _dtype(kind: bytes | str, *_: Any) -> np.dtype[Any]:
    """Return a type by its code, which is text where Python 3 pickled it.

    numpy 2.4 deprecates the further arguments as they are pickled.
    """
    return np.dtype(kind.decode() if isinstance(kind, bytes) else kind, copy=True)
