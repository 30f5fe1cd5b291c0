"""CIFAR and STL-10 in the bytes that their pages describe."""

import pickle
import pickletools
from pathlib import Path

import numpy as np
import pytest

from clipcurate.errors import InvalidInputError
from clipcurate.training import eval_sets

from .python2_pickles import dumps

RED, GREEN, BLUE = range(3)
FINE = ["apple", "aquarium_fish", "baby"]
COARSE = ["fish", "fruit_and_vegetables", "people"]


def planes(size: int, colour: int) -> np.ndarray:
    """An image as three planes of rows: one colour, brighter to the right; its first row is 7."""
    pixels = np.zeros((3, size, size), np.uint8)
    pixels[colour] = 100 + np.arange(size)
    pixels[:, 0] = 7
    return pixels


def assert_shown(url: Path, labels: list[int], size: int, colours: list[int]) -> None:
    images, found = zip(*eval_sets.open_set(str(url)).images(), strict=True)
    assert list(found) == labels
    for image, colour in zip(images, colours, strict=True):
        expected = [0, 0, 0]
        expected[colour] = 100 + 9
        assert image.size == (size, size)
        assert image.getpixel((9, 5)) == tuple(expected)
        assert image.getpixel((9, 0)) == (7, 7, 7)


def write_cifar_100(folder: Path) -> Path:
    """The python version: "data" is (images, 3072) uint8, red first, row by row."""
    folder.mkdir()
    data = np.stack([planes(32, GREEN).ravel(), planes(32, RED).ravel()])
    batch = {
        "filenames": ["apple_s_1.png", "baby_s_2.png"],
        "batch_label": "testing batch 1 of 1",
        "fine_labels": [0, 2],
        "coarse_labels": [1, 2],
        "data": data,
    }
    (folder / "test").write_bytes(dumps(batch))
    meta = {"fine_label_names": FINE, "coarse_label_names": COARSE}
    (folder / "meta").write_bytes(dumps(meta))
    return folder


def test_cifar_100_in_pickles(tmp_path: Path) -> None:
    folder = write_cifar_100(tmp_path / "cifar-100-python")
    opcodes = {opcode.name for opcode, _, _ in pickletools.genops((folder / "test").read_bytes())}
    assert {"SHORT_BINSTRING", "BINSTRING"} <= opcodes
    assert not {"BINUNICODE", "BINBYTES"} & opcodes
    for url in (tmp_path, folder):
        data = eval_sets.open_set(str(url))
        assert (data.name, data.metric) == ("CIFAR-100", "accuracy")
        assert data.classnames == ("apple", "aquarium fish", "baby")
    assert_shown(folder, [0, 2], 32, [GREEN, RED])


def test_arrays_that_python_3_pickled_are_read_too(tmp_path: Path) -> None:
    folder = write_cifar_100(tmp_path / "cifar-100-python")
    data = np.stack([planes(32, BLUE).ravel(), planes(32, RED).ravel()])
    batch = {b"fine_labels": [1, 0], b"data": data}
    (folder / "test").write_bytes(pickle.dumps(batch, 4))
    assert_shown(folder, [1, 0], 32, [BLUE, RED])


def test_cifar_100_in_binary(tmp_path: Path) -> None:
    """Per image a coarse label, a fine label and 3,072 bytes of pixels."""
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    rows = [bytes([1, 0]) + planes(32, GREEN).tobytes(), bytes([2, 2]) + planes(32, BLUE).tobytes()]
    (folder / "test.bin").write_bytes(b"".join(rows))
    (folder / "fine_label_names.txt").write_text("\n".join(FINE) + "\n")
    (folder / "coarse_label_names.txt").write_text("\n".join(COARSE) + "\n")
    assert eval_sets.open_set(str(folder)).classnames == ("apple", "aquarium fish", "baby")
    assert_shown(folder, [0, 2], 32, [GREEN, BLUE])


def test_cifar_10_in_pickles_and_in_binary(tmp_path: Path) -> None:
    pickles, binary = tmp_path / "cifar-10-batches-py", tmp_path / "cifar-10-batches-bin"
    pickles.mkdir()
    batch = {"batch_label": "testing batch 1 of 1", "labels": [1], "filenames": ["a.png"]}
    batch["data"] = planes(32, RED).reshape(1, 3072)
    (pickles / "test_batch").write_bytes(dumps(batch))
    meta = {"num_cases_per_batch": 10_000, "label_names": ["airplane", "automobile"]}
    (pickles / "batches.meta").write_bytes(dumps({**meta, "num_vis": 3072}))
    binary.mkdir()
    (binary / "test_batch.bin").write_bytes(bytes([1]) + planes(32, RED).tobytes())
    (binary / "batches.meta.txt").write_text("airplane\nautomobile\n\n")
    for folder in (pickles, binary):
        assert eval_sets.open_set(str(folder)).classnames == ("airplane", "automobile")
        assert_shown(folder, [1], 32, [RED])


def write_stl_10(folder: Path, labels: list[int]) -> Path:
    """Three planes per image, red first, each column by column; labels from 1."""
    folder.mkdir()
    images = [planes(96, BLUE), planes(96, GREEN)]
    (folder / "test_X.bin").write_bytes(b"".join(i.transpose(0, 2, 1).tobytes() for i in images))
    (folder / "test_y.bin").write_bytes(bytes(labels))
    (folder / "class_names.txt").write_text("airplane\nbird\ncar\n")
    return folder


def test_stl_10(tmp_path: Path) -> None:
    folder = write_stl_10(tmp_path / "stl10_binary", [3, 1])
    data = eval_sets.open_set(str(folder))
    assert (data.classnames, data.metric) == (("airplane", "bird", "car"), "accuracy")
    assert_shown(folder, [2, 0], 96, [BLUE, GREEN])


@pytest.mark.parametrize(
    ("labels", "message"),
    [([1], "1 labels for 2 images"), ([1, 4], "beyond the 3"), ([0, 1], "count from 1")],
)
def test_what_contradicts_itself_is_refused(
    tmp_path: Path, labels: list[int], message: str
) -> None:
    folder = write_stl_10(tmp_path / "stl10_binary", labels)
    with pytest.raises(InvalidInputError, match=f"not the files of STL-10 .*{message}"):
        eval_sets.open_set(str(folder))
    (folder / "test_X.bin").write_bytes(b"short")
    with pytest.raises(InvalidInputError, match="not the files of STL-10"):
        eval_sets.open_set(str(folder))


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1 / 0",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(Evil(), 2), "asks for .*eval"),
        (b"", "no pickle of CIFAR"),
        (dumps({"labels": []}), "data"),
        (dumps([1]), "no pickle of CIFAR"),
        (b"}}b.", "no pickle of CIFAR"),  # sets attributes of a dict
    ],
    ids=["evil", "empty", "incomplete", "other", "attributes"],
)
def test_pickles_of_anything_else_are_refused_and_not_run(
    tmp_path: Path, content: bytes, message: str
) -> None:
    folder = write_cifar_100(tmp_path / "cifar-100-python")
    (folder / "test").write_bytes(content)
    with pytest.raises(InvalidInputError, match=message):
        eval_sets.open_set(str(folder))
    (folder / "test").unlink()
    with pytest.raises(InvalidInputError, match="not the files of CIFAR-100"):
        eval_sets.open_set(str(folder))
