import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipcurate.errors import DatasetError, InvalidInputError
from clipcurate.training import eval_sets, evaluate

from .conftest import CLASSES, add, render
from .test_evaluate import oracle


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


def test_files_that_torchvision_reads_are_a_set(tmp_path: Path) -> None:
    data = tmp_path / "fgvc-aircraft-2013b" / "data"
    (data / "images").mkdir(parents=True)
    (data / "variants.txt").write_text("707-320\nA300B4\n")
    (data / "images_variant_test.txt").write_text("0000001 A300B4\n0000002 707-320\n")
    for number in (1, 2):
        image = Image.open(io.BytesIO(render(CLASSES[number])))
        image.save(data / "images" / f"000000{number}.jpg")
    for url in (tmp_path, tmp_path / "fgvc-aircraft-2013b"):
        found = eval_sets.open_set(str(url))
        assert (found.classnames, found.metric) == (("707-320", "A300B4"), "macro")
        assert [label for _, label in found.images()] == [1, 0]


def test_files_of_another_set_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(InvalidInputError, match="torchvision cannot read it"):
        eval_sets.open_set(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("fgvc-aircraft", "macro"),
        ("vtab-caltech101", "macro"),
        ("OxfordIIITPet", "macro"),
        ("vtab-flowers", "macro"),
        ("cifar10", "accuracy"),
        ("imagenet1k", "accuracy"),
    ],
)
def test_metrics_are_those_of_clips_paper(name: str, metric: str) -> None:
    assert eval_sets.metric_of(name) == metric


def test_templates_and_metric_can_be_named(tmp_path: Path) -> None:
    url = str(write_folder(tmp_path / "pets", CLASSES))
    assert eval_sets.open_set(url).metric == "macro"
    data = eval_sets.open_set(url, templates="openai", metric="accuracy")
    assert (len(data.templates), data.metric) == (80, "accuracy")
    assert len(eval_sets.open_set(url, templates="simple").templates) == 7
    with pytest.raises(InvalidInputError, match="choose one of openai"):
        eval_sets.open_set(url, templates="best")
    with pytest.raises(InvalidInputError, match="unknown metric"):
        eval_sets.open_set(url, metric="f1")


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


def test_retrieval_in_clip_benchmarks_layout(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    with tarfile.open(tmp_path / "test" / "0.tar", "w") as tar:
        for number, name in enumerate(CLASSES):
            add(tar, f"{number}.png", render(name))
            add(tar, f"{number}.txt", f"a {name}\nthe {name}\n\n{name} alone".encode())
    figures = evaluate.evaluate_on(oracle(), str(tmp_path))
    assert (figures["task"], figures["images"], figures["texts"]) == ("retrieval", 8, 24)
    assert figures["image_to_text"]["r@1"] == figures["text_to_image"]["r@1"] == 1
    assert figures["image_to_text"]["chance@1"] == pytest.approx(3 / 24)
    blind = evaluate.evaluate_on(oracle(wrong=frozenset(range(8))), str(tmp_path))
    assert blind["image_to_text"]["r@1"] == pytest.approx(1 / 8)
    with tarfile.open(tmp_path / "test" / "1.tar", "w") as tar:
        add(tar, "9.png", render(CLASSES[0]))
    with pytest.raises(DatasetError, match="'9' has no captions"):
        evaluate.evaluate_on(oracle(), str(tmp_path))
