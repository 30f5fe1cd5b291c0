"""What a model is evaluated on: images with classes, in the layouts that people have them in.

Nothing is downloaded. A set is told by what lies at its URL: CLIP_benchmark's webdataset folder, a
folder or zip archive with a folder of images per class, or the files of a set that torchvision
reads. The last two need a local path.
"""

import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from clipcurate import storage
from clipcurate.datasets.images import IMAGE_SUFFIXES, image_of, tar_samples
from clipcurate.errors import DatasetError, InvalidInputError, NotFoundError
from clipcurate.training.compat import open_clip
from clipcurate.training.crops import decode_image

Labelled = tuple[Image.Image, int]
Content = tuple[str, str, bytes]
"""An image by its class's folder, where it lies, and its bytes."""

# Sets whose publishers, and so CLIP's paper (Radford et al. 2021, appendix A) and CLIP_benchmark,
# report the mean over classes of the accuracy within each; all others report top-1 accuracy.
PER_CLASS = ("aircraft", "caltech101", "flowers", "pets", "oxfordiiitpet")

TEMPLATES = {
    "openai": open_clip.OPENAI_IMAGENET_TEMPLATES,
    "simple": open_clip.SIMPLE_IMAGENET_TEMPLATES,
    "plain": (lambda name: f"a photo of a {name}.",),
}

# Torchvision's classes by the folder that their archive unpacks to; each takes the parent folder.
BUILT_IN: dict[str, tuple[str, dict[str, Any]]] = {
    "cifar-10-batches-py": ("CIFAR10", {"train": False}),
    "cifar-100-python": ("CIFAR100", {"train": False}),
    "stl10_binary": ("STL10", {"split": "test"}),
    "fgvc-aircraft-2013b": ("FGVCAircraft", {"split": "test"}),
    "oxford-iiit-pet": ("OxfordIIITPet", {"split": "test"}),
    "food-101": ("Food101", {"split": "test"}),
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


def open_set(url: str, templates: str = "", metric: str = "") -> LabelledSet:
    """Return the set at `url`.

    Args:
        url: where it lies; see the module.
        templates: "openai" (80), "simple" (7) or "plain" (1) instead of the set's own.
        metric: "accuracy" or "macro" instead of the set's own.

    Raises:
        InvalidInputError: there is no set there, or it is incomplete or contradicts itself.
    """
    found = _opened(url)
    if templates:
        found = replace(found, templates=templates_of(templates))
    if metric not in ("", "accuracy", "macro"):
        raise InvalidInputError(f"unknown metric {metric!r}; choose accuracy or macro")
    return replace(found, metric=metric or found.metric)


def templates_of(name: str) -> tuple[Callable[[str], str], ...]:
    """Return templates by name. Raises InvalidInputError."""
    if name not in TEMPLATES:
        raise InvalidInputError(f"unknown templates {name!r}; choose one of {', '.join(TEMPLATES)}")
    return tuple(TEMPLATES[name])


def metric_of(name: str) -> str:
    """Return the metric that is the custom for a set of this name."""
    plain = "".join(letter for letter in name.lower() if letter.isalnum())
    return "macro" if any(part in plain for part in PER_CLASS) else "accuracy"


def is_webdataset(url: str) -> bool:
    """Say whether a folder is of CLIP_benchmark's layout: tars, there or in `test/`."""
    return bool(_tar_names(url))


def tars(url: str) -> list[str]:
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


def samples(url: str) -> Iterator[tuple[str, Image.Image, dict[str, bytes]]]:
    """Yield where, the image and all parts of each sample of a webdataset folder.

    Raises:
        DatasetError: an image cannot be decoded.
    """
    for tar in tars(url):
        with storage.open_read(tar) as file:
            for key, parts in tar_samples(file, tar):
                where = f"{tar}: sample {key!r}"
                yield where, _decoded(image_of(parts) or b"", where), parts


def _opened(url: str) -> LabelledSet:
    if storage.exists(storage.join(url, "zeroshot_classification_templates.txt")):
        return _webdataset(url)
    path = Path(url)
    for folder in (path, *(path / name for name in BUILT_IN)):
        if folder.name in BUILT_IN and folder.is_dir():
            return _built_in(folder)
    if zipfile.is_zipfile(path):
        return _archive(path)
    if path.is_dir() and not is_webdataset(url):
        return _folder(path)
    return _webdataset(url)


def _webdataset(url: str) -> LabelledSet:
    """Open CLIP_benchmark's layout, with `class_groups.txt` as an addition of ours."""
    names = _lines(url, "classnames.txt")
    texts = _lines(url, "zeroshot_classification_templates.txt")
    groups = _class_groups(url, len(names))
    tars(url)
    return LabelledSet(
        name=url.rstrip("/").rpartition("/")[2],
        classnames=tuple(names),
        templates=tuple(_filled(text) for text in texts),
        metric=metric_of(url.rstrip("/").rpartition("/")[2]),
        images=lambda: _webdataset_images(url, len(names)),
        groups=None if groups is None else tuple(groups),
    )


def _filled(template: str) -> Callable[[str], str]:
    return lambda name: template.replace("{c}", name)


def _webdataset_images(url: str, classes: int) -> Iterator[Labelled]:
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


def _folder(path: Path) -> LabelledSet:
    """Open a folder of images per class; classnames.txt renames the folders in their order."""
    folders = sorted(child.name for child in path.iterdir() if child.is_dir())
    files = [
        file
        for folder in folders
        for file in sorted((path / folder).rglob("*"))
        if _is_image(file.name)
    ]
    has_names = (path / "classnames.txt").exists()
    names = _lines(str(path), "classnames.txt") if has_names else folders

    def contents() -> Iterator[Content]:
        for file in files:
            yield file.relative_to(path).parts[0], str(file), file.read_bytes()

    return _by_class(str(path), folders if files else [], names, contents)


def _archive(path: Path) -> LabelledSet:
    """Open a zip archive of a folder of images per class, which may lie in one outer folder."""
    with zipfile.ZipFile(path) as archive:
        members = sorted(filter(_is_member, archive.namelist()))
    tops = {name.split("/")[0] for name in members}
    has_outer = len(tops) == 1 and all(name.count("/") > 1 for name in members)
    classes = {name: name.split("/")[int(has_outer)] for name in members}
    folders = sorted(set(classes.values()))

    def contents() -> Iterator[Content]:
        with zipfile.ZipFile(path) as archive:
            for name, folder in classes.items():
                yield folder, f"{path}: {name}", archive.read(name)

    return _by_class(str(path), folders, folders, contents)


def _is_member(name: str) -> bool:
    """Say whether a name in an archive is an image's; macOS adds others that look like it."""
    return _is_image(name) and "/" in name and not name.startswith("__MACOSX/")


def _by_class(
    where: str,
    folders: Sequence[str],
    names: Sequence[str],
    contents: Callable[[], Iterator[Content]],
) -> LabelledSet:
    """Return the set of images that lie in a folder per class."""
    if not folders:
        raise InvalidInputError(
            f"{where}: nothing to evaluate on; expected a folder of images per class, tars with "
            f"classnames.txt, or one of {', '.join(BUILT_IN)}"
        )
    if len(names) != len(folders):
        raise InvalidInputError(f"{where}: {len(names)} classnames for {len(folders)} folders")
    numbers = {folder: number for number, folder in enumerate(folders)}

    def images() -> Iterator[Labelled]:
        for folder, file, content in contents():
            yield _decoded(content, file), numbers[folder]

    stem = Path(where).name
    shown = tuple(name.replace("_", " ") for name in names)
    return LabelledSet(stem, shown, templates_of("plain"), metric_of(stem), images)


def _built_in(folder: Path) -> LabelledSet:
    """Open a set that torchvision reads; it is not downloaded."""
    import torchvision

    kind, arguments = BUILT_IN[folder.name]
    try:
        data: Any = getattr(torchvision.datasets, kind)(str(folder.parent), **arguments)
    except (RuntimeError, OSError, ModuleNotFoundError) as error:
        raise InvalidInputError(f"{folder}: torchvision cannot read it ({error})") from error
    names = tuple(str(name).replace("_", " ") for name in data.classes)

    def images() -> Iterator[Labelled]:
        return ((image.convert("RGB"), int(label)) for image, label in data)

    return LabelledSet(kind, names, templates_of("plain"), metric_of(kind), images)


def _is_image(name: str) -> bool:
    return name.rpartition(".")[2].lower() in IMAGE_SUFFIXES


def _decoded(content: bytes, where: str) -> Image.Image:
    image = decode_image(content)
    if image is None:
        raise DatasetError(f"{where} has no image that can be decoded")
    return image


def _class_groups(url: str, classes: int) -> list[str] | None:
    if not storage.exists(storage.join(url, "class_groups.txt")):
        return None
    groups = _lines(url, "class_groups.txt")
    if len(groups) != classes:
        raise InvalidInputError(f"{url}: {len(groups)} class groups for {classes} classes")
    return groups


def _lines(url: str, name: str) -> list[str]:
    path = storage.join(url, name)
    try:
        lines = [line.strip() for line in storage.read_bytes(path).decode().splitlines()]
    except (NotFoundError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path}: not a readable text file ({error})") from error
    if not any(lines):
        raise InvalidInputError(f"{path}: empty")
    return [line for line in lines if line]
