"""Images with the numbers of their classes, and what of a set is custom: templates and metric."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from PIL import Image

from clipcurate import storage
from clipcurate.errors import DatasetError, InvalidInputError, NotFoundError
from clipcurate.training.compat import open_clip
from clipcurate.training.crops import decode_image

Labelled = tuple[Image.Image, int]

# Sets whose publishers, and so CLIP's paper (Radford et al. 2021, appendix A) and CLIP_benchmark,
# report the mean over classes of the accuracy within each; all others report top-1 accuracy.
PER_CLASS = ("aircraft", "caltech101", "flowers", "pets", "oxfordiiitpet")

TEMPLATES = {
    "openai": open_clip.OPENAI_IMAGENET_TEMPLATES,
    "simple": open_clip.SIMPLE_IMAGENET_TEMPLATES,
    "plain": (lambda name: f"a photo of a {name}.",),
}


@dataclass(frozen=True)
class LabelledSet:
    """Images with their classes.

    Attributes:
        name: for people.
        classnames: one per class, in the order of their numbers.
        templates: functions from a class's name to a text.
        metric: the figure that counts for this set: "accuracy" or "macro" (mean per class).
        images: begins to yield each image with the number of its class.
        groups: name of a group per class, if the set has groups.
    """

    name: str
    classnames: tuple[str, ...]
    templates: tuple[Callable[[str], str], ...]
    metric: str
    images: Callable[[], Iterator[Labelled]]
    groups: tuple[str, ...] | None = None


def templates_of(name: str) -> tuple[Callable[[str], str], ...]:
    """Return templates by name. Raises InvalidInputError."""
    if name not in TEMPLATES:
        raise InvalidInputError(f"unknown templates {name!r}; choose one of {', '.join(TEMPLATES)}")
    return tuple(TEMPLATES[name])


def metric_of(name: str) -> str:
    """Return the metric that is the custom for a set of this name."""
    plain = "".join(letter for letter in name.lower() if letter.isalnum())
    return "macro" if any(part in plain for part in PER_CLASS) else "accuracy"


def shown(name: str) -> str:
    """Return a class's name as a text has it: publishers write blanks as underscores."""
    return name.replace("_", " ")


def decoded(content: bytes, where: str) -> Image.Image:
    """Return the image that lies somewhere. Raises DatasetError: it cannot be decoded."""
    image = decode_image(content)
    if image is None:
        raise DatasetError(f"{where} has no image that can be decoded")
    return image


def read_lines(url: str, name: str) -> list[str]:
    """Return the lines of a text file of a folder that are not empty, without outer blanks.

    Raises:
        InvalidInputError: it is missing, no text, or has no such line.
    """
    path = storage.join(url, name)
    try:
        lines = [line.strip() for line in storage.read_bytes(path).decode().splitlines()]
    except (NotFoundError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path}: not a readable text file ({error})") from error
    if not any(lines):
        raise InvalidInputError(f"{path}: empty")
    return [line for line in lines if line]
