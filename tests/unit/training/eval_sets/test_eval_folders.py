import zipfile
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from clipcurate.errors import DatasetError, InvalidInputError
from clipcurate.training import eval_sets, evaluate
from clipcurate.training.compat import open_clip

from ..conftest import CLASSES, render
from ..test_evaluate import oracle


def write_folder(folder: Path, names: list[str] | None = None) -> Path:
    for number, name in enumerate(CLASSES):
        (folder / f"{number:02d}_{name}").mkdir(parents=True)
        (folder / f"{number:02d}_{name}" / "1.png").write_bytes(render(name))
        (folder / f"{number:02d}_{name}" / "notes.md").write_text("no image")
    if names:
        (folder / "classnames.txt").write_text("\n".join(names))
    return folder


def test_a_folder_per_class_is_a_set(tmp_path: Path) -> None:
    figures = evaluate.zero_shot(oracle(), str(write_folder(tmp_path / "set", CLASSES)))
    assert (figures["images"], figures["accuracy"], figures["top5"]) == (8, 1, 1)
    assert [c["class"] for c in figures["per_class"]] == CLASSES
    unnamed = eval_sets.open_set(str(write_folder(tmp_path / "unnamed")))
    assert unnamed.classnames[0] == f"00 {CLASSES[0]}"
    assert unnamed.templates[0]("cat") == "a photo of a cat."


def test_a_zip_of_a_folder_per_class_is_a_set(tmp_path: Path) -> None:
    path = tmp_path / "shapes.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in CLASSES:
            archive.writestr(f"outer/{name}/1.png", render(name))
    data = eval_sets.open_set(str(path))
    assert data.classnames == tuple(sorted(CLASSES))
    labels = [data.classnames[label] for _, label in data.images()]
    assert labels == sorted(CLASSES)


def test_a_zip_has_the_classes_that_its_folders_have(tmp_path: Path) -> None:
    """Images may lie deeper than their class; what macOS adds is none."""
    path = tmp_path / "shapes.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in CLASSES:
            archive.writestr(f"{name}/part/1.png", render(name))
            archive.writestr(f"__MACOSX/{name}/part/._1.png", b"no image")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "folder", [n for n in archive.namelist() if n[0] != "_"])
    zipped, folder = (eval_sets.open_set(str(p)) for p in (path, tmp_path / "folder"))
    assert zipped.classnames == folder.classnames == tuple(sorted(CLASSES))
    assert [label for _, label in zipped.images()] == [label for _, label in folder.images()]


def test_real_cifar_is_a_set(shared_data: Path) -> None:
    data = eval_sets.open_set(str(shared_data / "images" / "cifar10_test_5k.zip"))
    assert len(data.classnames) == 10
    assert "airplane" in data.classnames
    images = list(data.images())
    assert len(images) == 5_000
    assert np.bincount([label for _, label in images]).tolist() == [500] * 10


def test_what_is_no_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="nothing to evaluate on"):
        eval_sets.open_set(str(tmp_path))
    url = str(write_folder(tmp_path / "set", CLASSES[:3]))
    with pytest.raises(InvalidInputError, match="3 classnames for 8 folders"):
        eval_sets.open_set(url)
    broken = write_folder(tmp_path / "broken")
    (broken / f"00_{CLASSES[0]}" / "2.png").write_bytes(b"broken")
    with pytest.raises(DatasetError, match=r"2\.png has no image"):
        list(eval_sets.open_set(str(broken)).images())


NAMES = {
    "n01440764": "tench",
    "n02012849": "crane bird",
    "n02123045": "tabby cat",
    "n03126707": "construction crane",
    "n15075141": "toilet paper",
}
"""Of ILSVRC 2012, where two classes are called crane; in the order of their numbers."""


def write_synsets(folder: Path, synsets: Iterable[str]) -> Path:
    """A folder of images as ImageNet's validation set comes, sorted into synsets."""
    for number, synset in enumerate(synsets):
        (folder / synset).mkdir(parents=True)
        image = folder / synset / f"ILSVRC2012_val_{number:08d}.JPEG"
        image.write_bytes(render(CLASSES[number % len(CLASSES)]))
    return folder


def test_folders_of_synsets_have_imagenets_names(tmp_path: Path) -> None:
    data = eval_sets.open_set(str(write_synsets(tmp_path / "val", NAMES)))
    assert data.classnames == tuple(NAMES.values())
    assert [label for _, label in data.images()] == list(range(len(NAMES)))
    assert (len(data.templates), data.metric) == (80, "accuracy")
    with zipfile.ZipFile(tmp_path / "val.zip", "w") as archive:
        for file in (tmp_path / "val").rglob("*.JPEG"):
            archive.write(file, f"val/{file.parent.name}/{file.name}")
    assert eval_sets.open_set(str(tmp_path / "val.zip")).classnames == data.classnames


def test_all_synsets_of_imagenet_have_its_names_in_their_order(tmp_path: Path) -> None:
    lines = resources.files("timm.data._info").joinpath("imagenet_synsets.txt").read_text()
    folder = write_synsets(tmp_path / "val", lines.split())
    assert eval_sets.open_set(str(folder)).classnames == tuple(open_clip.IMAGENET_CLASSNAMES)


def test_synsets_that_are_not_imagenets_need_names(tmp_path: Path) -> None:
    folder = write_synsets(tmp_path / "val", [*NAMES, "n09999999"])
    with pytest.raises(InvalidInputError, match=r"n09999999: 1 of 6 folders .* classnames\.txt"):
        eval_sets.open_set(str(folder))
    names = [*NAMES.values(), "something_else"]
    ordered = [name for _, name in sorted(zip([*NAMES, "n09999999"], names, strict=True))]
    (folder / "classnames.txt").write_text("\n".join(ordered))
    assert eval_sets.open_set(str(folder)).classnames == tuple(ordered)
