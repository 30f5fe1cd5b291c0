"""Tars in the layout of CLIP_benchmark, with `class_groups.txt` as an addition of ours."""

from collections.abc import Callable, Iterator

from PIL import Image

from clipcurate import storage
from clipcurate.datasets.images import image_of, tar_samples
from clipcurate.errors import DatasetError, InvalidInputError
from clipcurate.training.eval_sets.labelled import (
    Labelled,
    LabelledSet,
    decoded,
    metric_of,
    read_lines,
)

TEMPLATES = "zeroshot_classification_templates.txt"
GROUPS = "class_groups.txt"


def is_webdataset(url: str) -> bool:
    """Say whether a folder is of CLIP_benchmark's layout: tars, there or in `test/`."""
    return bool(_tar_names(url))


def samples(url: str) -> Iterator[tuple[str, Image.Image, dict[str, bytes]]]:
    """Yield where, the image and all parts of each sample of a webdataset folder.

    Raises:
        InvalidInputError: there are no tars.
        DatasetError: an image cannot be decoded.
    """
    for tar in _tars(url):
        with storage.open_read(tar) as file:
            for key, parts in tar_samples(file, tar):
                where = f"{tar}: sample {key!r}"
                yield where, decoded(image_of(parts) or b"", where), parts


def open_folder(url: str) -> LabelledSet:
    """Open a folder of tars with the names and templates of their classes.

    Raises:
        InvalidInputError: it is incomplete or contradicts itself.
    """
    names = read_lines(url, "classnames.txt")
    texts = read_lines(url, TEMPLATES)
    groups = _class_groups(url, len(names))
    _tars(url)
    name = url.rstrip("/").rpartition("/")[2]
    return LabelledSet(
        name=name,
        classnames=tuple(names),
        templates=tuple(_filled(text) for text in texts),
        metric=metric_of(name),
        images=lambda: _images(url, len(names)),
        groups=groups,
    )


def _tars(url: str) -> list[str]:
    """Return the tars of a webdataset folder by number. Raises InvalidInputError if none."""
    found = sorted(_tar_names(url), key=lambda name: (len(name), name))
    if not found:
        raise InvalidInputError(f"{url}: no *.tar with images to evaluate on")
    return found


def _tar_names(url: str) -> list[str]:
    fs, path = storage.locate(url)
    for folder, url_of_folder in ((path, url), (f"{path}/test", storage.join(url, "test"))):
        names = [str(found).rpartition("/")[2] for found in fs.glob(f"{folder}/*.tar")]
        if names:
            return [storage.join(url_of_folder, name) for name in names]
    return []


def _filled(template: str) -> Callable[[str], str]:
    return lambda name: template.replace("{c}", name)


def _images(url: str, classes: int) -> Iterator[Labelled]:
    for where, image, parts in samples(url):
        yield image, _label(parts, classes, where)


def _label(parts: dict[str, bytes], classes: int, where: str) -> int:
    try:
        label = int(parts["cls"])
    except (KeyError, ValueError) as error:
        raise DatasetError(f"{where} has no class number in a .cls file") from error
    if not 0 <= label < classes:
        raise DatasetError(f"{where}: class {label} is not within the {classes} of classnames.txt")
    return label


def _class_groups(url: str, classes: int) -> tuple[str, ...] | None:
    if not storage.exists(storage.join(url, GROUPS)):
        return None
    groups = read_lines(url, GROUPS)
    if len(groups) != classes:
        raise InvalidInputError(f"{url}: {len(groups)} class groups for {classes} classes")
    return tuple(groups)
