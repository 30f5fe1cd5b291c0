"""Small rendered datasets: a colour and a shape per image, named in its captions."""

import io
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

import clipcurate.training.compat  # noqa: F401 - before any test imports torchvision
from clipcurate.datasets.manifest import FileRecord, Manifest
from clipcurate.datasets.outcomes import Totals
from clipcurate.training.config import TrainConfig, config_for
from tests.frozen_runs import Run
from tests.image_datasets import write_image_dataset

from .thinned import BALANCED, MATCHED, curate

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 60), "blue": (40, 60, 230), "white": (245,) * 3}
SHAPES = ("disc", "square")
CLASSES = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]

torch.set_num_threads(1)  # tests share their cores; spinning threads cost tenfold

Sample = tuple[bytes, list[str]]


def render(name: str, size: int = 40, offset: int = 0) -> bytes:
    colour, shape = name.split()
    image = Image.new("RGB", (size, size + 3), (90, 90, 90))
    draw = ImageDraw.Draw(image)
    box = (6 + offset, 6, size - 8 + offset, size - 8)
    (draw.ellipse if shape == "disc" else draw.rectangle)(box, fill=COLOURS[colour])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def write_dataset(folder: Path, samples: Iterable[Sample], block_bytes: int = 24_000) -> str:
    return write_image_dataset(str(folder), [samples], block_bytes=block_bytes)


def make_manifest(name: str, images: int) -> Manifest:
    files = [FileRecord("pairs-00000.parquet", "pairs", size=0, hash="", rows=1, part=0)]
    if images:
        files.append(FileRecord("images-00000.tar", "images", 0, "", rows=images, part=0))
    return Manifest({"name": name}, name, Totals(), {}, {}, 0.0, 0.0, 0, [], tuple(files), {})


def coloured_samples(count: int) -> list[Sample]:
    names = [CLASSES[i % len(CLASSES)] for i in range(count)]
    return [
        (render(name, offset=i % 5 - 2), [f"a photo of a {name}", f"{name} on grey"])
        for i, name in enumerate(names)
    ]


def write_evaluation(folder: Path, per_class: int = 2) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / "0.tar", "w") as tar:
        for i in range(per_class * len(CLASSES)):
            label = i % len(CLASSES)
            add(tar, f"s{i:04d}.png", render(CLASSES[label], size=44))
            add(tar, f"s{i:04d}.cls", str(label).encode())
    (folder / "classnames.txt").write_text("\n".join(CLASSES) + "\n")
    (folder / "zeroshot_classification_templates.txt").write_text("a photo of a {c}\n{c} on grey\n")
    groups = ["head", "tail"] * (len(CLASSES) // 2)
    (folder / "class_groups.txt").write_text("\n".join(groups) + "\n")
    return str(folder)


@pytest.fixture(scope="session")
def dataset_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_dataset(tmp_path_factory.mktemp("dataset"), coloured_samples(48))


@pytest.fixture(scope="session")
def evaluation_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_evaluation(tmp_path_factory.mktemp("evaluation"))


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return curate(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def matched(run: Run) -> str:
    return run.emit(MATCHED)


@pytest.fixture(scope="session")
def balanced(run: Run) -> str:
    return run.emit(BALANCED)


@pytest.fixture
def make_config() -> Callable[..., TrainConfig]:
    """Settings small enough that a test takes seconds."""

    def make(**overrides: object) -> TrainConfig:
        small = {"batch_size": 16, "seen_pairs": 96, "log_every": 1, "checkpoint_every": 2}
        return config_for("tiny", {k: str(v) for k, v in (small | overrides).items()})

    return make
