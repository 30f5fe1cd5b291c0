"""CIFAR-10 with a long tail: a pool of captioned photos, and sets to evaluate on."""

import json
import random
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from demo.evalset import GROUPS, TEMPLATES
from demo.pool import draw_text
from demo.tars import write_tar

TRAIN, TEST = "cifar10_train_20k.zip", "cifar10_test_5k.zip"
Photo = tuple[int, bytes]
"""A class and a JPEG."""


def classes(images: Path) -> list[str]:
    """Return the names of the classes, most frequent first in the pool: in random order."""
    with zipfile.ZipFile(images / TEST) as photos:
        names = sorted({name.split("/")[1] for name in photos.namelist()})
    random.Random("ranks").shuffle(names)
    return names


def class_sizes(number: int, largest: int, imbalance: float) -> list[int]:
    """Return sizes that fall exponentially by `imbalance` in all (Cui et al., arXiv 1901.05555)."""
    return [round(largest * imbalance ** (-rank / (number - 1))) for rank in range(number)]


def photos(
    archive: Path, names: Sequence[str], sizes: Sequence[int], first: int = 0
) -> Iterator[Photo]:
    """Yield of each class as many photos as its size, from number `first` on."""
    with zipfile.ZipFile(archive) as folder:
        for rank, (name, size) in enumerate(zip(names, sizes, strict=True)):
            paths = sorted(p for p in folder.namelist() if p.split("/")[1] == name)
            for path in paths[first : first + size]:
                yield rank, folder.read(path)


def write_pool(found: Sequence[Photo], names: Sequence[str], path: Path) -> None:
    """Write photos in random order, with the demo's texts of their classes, as one tar."""
    weights = [float(sum(rank == other for other, _ in found)) for rank in range(len(names))]
    order = random.Random("pool").sample(found, len(found))
    write_tar(path, _captioned(order, names, weights))


def _captioned(
    order: Iterable[Photo], names: Sequence[str], weights: Sequence[float]
) -> Iterator[tuple[str, bytes]]:
    for number, (rank, photo) in enumerate(order):
        rng = random.Random(f"text/{number}")
        _, text = draw_text(names[rank], None, names, weights, rng)
        facts = {"url": f"https://cifar.invalid/{number}.jpg", "caption": text}
        yield f"{number:09d}.jpg", photo
        yield f"{number:09d}.txt", text.encode()
        yield f"{number:09d}.json", json.dumps(facts).encode()


def write_eval(found: Iterable[Photo], names: Sequence[str], folder: Path) -> None:
    """Write photos with their classes in CLIP_benchmark's layout; groups as the demo has them."""
    (folder / "test").mkdir(parents=True)
    groups = [GROUPS[rank * len(GROUPS) // len(names)] for rank in range(len(names))]
    lines = {"classnames": names, "zeroshot_classification_templates": TEMPLATES}
    for name, values in {**lines, "class_groups": groups}.items():
        (folder / f"{name}.txt").write_text("".join(f"{value}\n" for value in values))
    (folder / "test" / "nshards.txt").write_text("1\n")
    members = (
        member
        for number, (rank, photo) in enumerate(found)
        for member in ((f"{number:09d}.cls", str(rank).encode()), (f"{number:09d}.jpg", photo))
    )
    write_tar(folder / "test" / "0.tar", members)
