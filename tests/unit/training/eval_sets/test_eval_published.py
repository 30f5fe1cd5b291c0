"""Sets of a file per image, in the layouts that their archives unpack to."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from clipcurate.errors import DatasetError, InvalidInputError
from clipcurate.training import eval_sets, evaluate

from ..conftest import CLASSES, render
from ..test_evaluate import oracle


def write_jpeg(path: Path, name: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.open(io.BytesIO(render(name))).save(path, quality=95)


def test_aircraft(tmp_path: Path) -> None:
    data = tmp_path / "fgvc-aircraft-2013b" / "data"
    for number in (1, 2):
        write_jpeg(data / "images" / f"000000{number}.jpg", CLASSES[number])
    (data / "variants.txt").write_text("707-320\nA300B4\n")
    (data / "images_variant_test.txt").write_text("0000001 A300B4\n0000002 707-320\n")
    for url in (tmp_path, tmp_path / "fgvc-aircraft-2013b"):
        found = eval_sets.open_set(str(url))
        assert (found.classnames, found.metric) == (("707-320", "A300B4"), "macro")
        assert [label for _, label in found.images()] == [1, 0]


def write_pets(folder: Path) -> Path:
    """annotations/test.txt: image, class from 1, species, breed of the species."""
    annotations = folder / "annotations"
    annotations.mkdir(parents=True)
    lines = [
        "Abyssinian_201 1 1 1", "american_bulldog_203 2 2 1", "Egyptian_Mau_7 3 1 2",
        "Egyptian_Mau_8 3 1 2",
    ]  # fmt: skip
    (annotations / "test.txt").write_text("\n".join(lines) + "\n")
    (annotations / "trainval.txt").write_text("Abyssinian_100 1 1 1\n")
    for number, line in enumerate(lines):
        write_jpeg(folder / "images" / f"{line.split()[0]}.jpg", CLASSES[min(number, 2)])
    return folder


def test_pets_count_each_class_alike(tmp_path: Path) -> None:
    folder = write_pets(tmp_path / "oxford-iiit-pet")
    data = eval_sets.open_set(str(folder))
    assert data.classnames == ("Abyssinian", "American Bulldog", "Egyptian Mau")
    assert [label for _, label in data.images()] == [0, 1, 2, 2]
    named = replace(data, classnames=tuple(CLASSES[:3]))
    figures = evaluate.zero_shot(oracle(wrong=frozenset({1})), named)
    assert figures["accuracy"] == 3 / 4
    assert (figures["metric"], figures["value"]) == ("macro", pytest.approx(2 / 3))


def test_food_101(tmp_path: Path) -> None:
    """meta/test.json: the images of each class, without their extension."""
    folder = tmp_path / "food-101"
    meta = {"waffles": ["waffles/9", "waffles/10"], "apple_pie": ["apple_pie/1011328"]}
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "test.json").write_text(json.dumps(meta))
    (folder / "meta" / "classes.txt").write_text("apple_pie\nwaffles\n")
    for number, image in enumerate(["waffles/9", "waffles/10", "apple_pie/1011328"]):
        write_jpeg(folder / "images" / f"{image}.jpg", CLASSES[number])
    data = eval_sets.open_set(str(folder))
    assert (data.classnames, data.metric) == (("apple pie", "waffles"), "accuracy")
    shown = [(label, image.getpixel((20, 20))) for image, label in data.images()]
    expected = [Image.open(io.BytesIO(render(name))).getpixel((20, 20)) for name in CLASSES[:3]]
    for (label, pixel), wanted, colour in zip(shown, [1, 1, 0], expected, strict=True):
        assert label == wanted
        assert pixel == pytest.approx(colour, abs=12)


def test_an_image_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    folder = write_pets(tmp_path / "oxford-iiit-pet")
    image = folder / "images" / "Egyptian_Mau_8.jpg"
    for break_it in (lambda: image.write_bytes(b"no image"), image.unlink):
        break_it()
        with pytest.raises(DatasetError, match=r"test image 3 .*Egyptian_Mau_8\.jpg"):
            list(eval_sets.open_set(str(folder)).images())


@pytest.mark.parametrize("name", ["cifar-10-batches-py", "stl10_binary", "food-101"])
def test_a_folder_without_the_sets_files_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(InvalidInputError, match="as they are published"):
        eval_sets.open_set(str(tmp_path))
