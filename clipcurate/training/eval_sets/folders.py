"""A folder of images per class, on disk or in a zip archive.

`classnames.txt` names the classes in the sorted order of their folders. Without it a folder's name
is its class's; but where all are synsets of WordNet (n01440764), as in ImageNet, each has the name
that open_clip has for that class of ImageNet-1k.
"""

import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from clipcurate.datasets.images import IMAGE_SUFFIXES
from clipcurate.errors import InvalidInputError
from clipcurate.training.compat import open_clip
from clipcurate.training.eval_sets.labelled import (
    Labelled,
    LabelledSet,
    decoded,
    metric_of,
    read_lines,
    shown,
    templates_of,
)

Content = tuple[str, str, bytes]
"""An image by its class's folder, where it lies, and its bytes."""

SYNSET = re.compile(r"n\d{8}")
NAMES = "classnames.txt"


def open_folder(path: Path) -> LabelledSet:
    """Open a folder with a folder of images per class.

    Raises:
        InvalidInputError: there are none, or their names do not fit them.
    """
    folders = sorted(child.name for child in path.iterdir() if child.is_dir())
    files = [
        file
        for folder in folders
        for file in sorted((path / folder).rglob("*"))
        if _is_image(file.name)
    ]
    names = read_lines(str(path), NAMES) if (path / NAMES).exists() else None

    def contents() -> Iterator[Content]:
        for file in files:
            yield file.relative_to(path).parts[0], str(file), file.read_bytes()

    return _by_class(str(path), folders if files else [], names, contents)


def open_archive(path: Path) -> LabelledSet:
    """Open a zip archive of a folder of images per class, which may lie in one outer folder.

    Raises:
        InvalidInputError: there are none.
    """
    with zipfile.ZipFile(path) as archive:
        members = sorted(filter(_is_member, archive.namelist()))
    tops = {name.split("/")[0] for name in members}
    has_outer = len(tops) == 1 and all(name.count("/") > 1 for name in members)
    classes = {name: name.split("/")[int(has_outer)] for name in members}

    def contents() -> Iterator[Content]:
        with zipfile.ZipFile(path) as archive:
            for name, folder in classes.items():
                yield folder, f"{path}: {name}", archive.read(name)

    return _by_class(str(path), sorted(set(classes.values())), None, contents)


def _is_member(name: str) -> bool:
    """Say whether a name in an archive is an image's; macOS adds others that look like it."""
    return _is_image(name) and "/" in name and not name.startswith("__MACOSX/")


def _is_image(name: str) -> bool:
    return name.rpartition(".")[2].lower() in IMAGE_SUFFIXES


def _by_class(
    where: str,
    folders: Sequence[str],
    names: Sequence[str] | None,
    contents: Callable[[], Iterator[Content]],
) -> LabelledSet:
    """Return the set of images that lie in a folder per class."""
    if not folders:
        raise InvalidInputError(
            f"{where}: nothing to evaluate on; expected a folder of images per class, tars with "
            f"{NAMES}, or the files of a published set"
        )
    if names is not None and len(names) != len(folders):
        raise InvalidInputError(f"{where}: {len(names)} classnames for {len(folders)} folders")
    is_imagenet = all(map(SYNSET.fullmatch, folders))
    if names is None:
        names = imagenet_names(folders) if is_imagenet else list(map(shown, folders))
    numbers = {folder: number for number, folder in enumerate(folders)}

    def images() -> Iterator[Labelled]:
        for folder, file, content in contents():
            yield decoded(content, file), numbers[folder]

    stem = Path(where).name
    templates = templates_of("openai" if is_imagenet else "plain")
    return LabelledSet(stem, tuple(names), templates, metric_of(stem), images)


def imagenet_names(synsets: Sequence[str]) -> list[str]:
    """Return open_clip's names of classes of ImageNet-1k by their WordNet ids.

    The classes of ILSVRC 2012 are numbered in the order of their ids, and open_clip names them by
    number.

    Raises:
        InvalidInputError: an id is of no such class.
    """
    from timm.data.imagenet_info import ImageNetInfo

    ids: list[str] = ImageNetInfo("imagenet-1k").label_names()  # type: ignore[no-untyped-call]
    names = dict(zip(ids, open_clip.IMAGENET_CLASSNAMES, strict=True))
    others = [synset for synset in synsets if synset not in names]
    if others:
        raise InvalidInputError(
            f"{', '.join(others[:3])}: {len(others)} of {len(synsets)} folders are no class of "
            f"ImageNet-1k; name all classes in {NAMES}, a line per folder in sorted order"
        )
    return [names[synset] for synset in synsets]
