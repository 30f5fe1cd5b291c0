"""The held-out set: as many fresh pictures of every concept, in CLIP_benchmark's layout.

CLIP_benchmark reads the folder as it is; `class_groups.txt`, one name per class, is our own.
"""

import random
from collections.abc import Iterable, Iterator
from pathlib import Path

from demo.concepts import CONCEPTS
from demo.config import DemoConfig
from demo.pool import concept_ranks
from demo.render import draw_look, encode, render
from demo.tars import write_tar

TAR_IMAGES = 1_000
"""Pictures per tar."""

GROUPS: tuple[str, ...] = ("head", "middle", "tail")
"""Thirds of the concepts by frequency in the pool, most frequent first."""

TEMPLATES: tuple[str, ...] = (
    "{c}",
    "{c} icon",
    "a photo of a {c}",
    "an image of a {c}",
    "picture of a {c}",
    "the {c}",
    "vector {c} clip art",
    "a {c} on a white background",
)
"""Texts whose mean embedding stands for a class."""


def class_groups(config: DemoConfig) -> list[str]:
    """The group of each concept, in the order of `CONCEPTS`."""
    groups = [""] * config.num_concepts
    for rank, concept in enumerate(concept_ranks(config)):
        groups[concept] = GROUPS[rank * len(GROUPS) // config.num_concepts]
    return groups


def write_eval(config: DemoConfig, folder: Path) -> int:
    """Writes the held-out set into an empty folder and returns its number of pictures."""
    folder.mkdir(parents=True)
    _write_lines(folder / "classnames.txt", (concept.name for concept in config.concepts))
    _write_lines(folder / "zeroshot_classification_templates.txt", TEMPLATES)
    _write_lines(folder / "class_groups.txt", class_groups(config))
    count = config.num_concepts * config.eval_per_class
    starts = range(0, count, TAR_IMAGES)
    (folder / "test").mkdir()
    _write_lines(folder / "test" / "nshards.txt", [str(len(starts))])
    for tar, start in enumerate(starts):
        numbers = range(start, min(start + TAR_IMAGES, count))
        members = (member for number in numbers for member in _members(config, number))
        write_tar(folder / "test" / f"{tar}.tar", members)
    return count


def _members(config: DemoConfig, number: int) -> Iterator[tuple[str, bytes]]:
    """The picture and the class of one sample; classes take turns."""
    concept = number % config.num_concepts
    look = draw_look(random.Random(f"eval/{config.seed}/{number}"))
    yield f"{number:09d}.cls", str(concept).encode()
    yield f"{number:09d}.jpg", encode(render(CONCEPTS[concept].glyph, look))


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
