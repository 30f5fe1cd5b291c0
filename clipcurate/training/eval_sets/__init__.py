"""What a model is evaluated on: images with classes, in the layouts that people have them in.

Nothing is downloaded. A set is told by what lies at its URL: CLIP_benchmark's webdataset folder
(`webdataset`), a folder or zip archive with a folder of images per class (`folders`), or the files
of a published set as its archive unpacks (`published`). The last two need a local path.
"""

import zipfile
from dataclasses import replace
from pathlib import Path

from clipcurate import storage
from clipcurate.errors import InvalidInputError
from clipcurate.training.eval_sets import folders, published, webdataset
from clipcurate.training.eval_sets.labelled import LabelledSet, metric_of, templates_of
from clipcurate.training.eval_sets.webdataset import is_webdataset, samples

__all__ = ["LabelledSet", "is_webdataset", "metric_of", "open_set", "samples", "templates_of"]


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


def _opened(url: str) -> LabelledSet:
    if storage.exists(storage.join(url, webdataset.TEMPLATES)):
        return webdataset.open_folder(url)
    path = Path(url)
    for folder in (path, *(path / name for name in published.FOLDERS)):
        if folder.name in published.FOLDERS and folder.is_dir():
            return published.open_folder(folder)
    if zipfile.is_zipfile(path):
        return folders.open_archive(path)
    if path.is_dir() and not is_webdataset(url):
        return folders.open_folder(path)
    return webdataset.open_folder(url)
