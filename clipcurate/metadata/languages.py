"""The metadata of a run: one list for all texts, or one per language."""

import re
from collections.abc import Sequence

from clipcurate import storage
from clipcurate.errors import MetadataError
from clipcurate.metadata.entries import ALL, Metadata
from clipcurate.metadata.files import load

EXTENSIONS = ("json", "txt", "parquet", "parq")
"""Of the files in a folder that are metadata, each also with .gz; others are left out."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def load_languages(urls: Sequence[str], *, dedupe: bool = False) -> dict[str, Metadata]:
    """Read a run's metadata.

    Args:
        urls: one file, whose entries serve all texts; or a folder of files, one per metadata
            language and named by it (`en.json.gz`, `other.txt`); or several files and folders.
        dedupe: as for `load`.

    Returns:
        Metadata by language, in order of language; `all` names the one that serves all texts.

    Raises:
        NotFoundError: no such file or folder.
        MetadataError: as for `load`; a folder without metadata; or a language twice.
    """
    found = [file for url in urls for file in _files(url)]
    if len(urls) == 1 and found == [urls[0]]:
        return {ALL: load(urls[0], dedupe=dedupe)}
    by_language = _by_language(found)
    return {name: load(by_language[name], dedupe=dedupe) for name in sorted(by_language)}


def require_language_name(name: str, where: str) -> None:
    """Raise MetadataError unless a metadata language can be part of a file's name."""
    if not _NAME.fullmatch(name):
        raise MetadataError(
            f"{where}: {name!r} cannot name a language; use letters, digits, - and _ (en, zh-Hant)"
        )


def _files(url: str) -> list[str]:
    """Return the metadata files of a folder, or the file itself."""
    fs, path = storage.locate(url)
    if not fs.isdir(path):
        return [url]
    names = sorted(str(name).rpartition("/")[2] for name in fs.ls(path, detail=False))
    found = [storage.join(url, name) for name in names if _is_metadata(name)]
    if not found:
        endings = ", ".join(f".{extension}" for extension in EXTENSIONS)
        raise MetadataError(f"{url}: no metadata in this folder; its files end in {endings} or .gz")
    return found


def _is_metadata(name: str) -> bool:
    extension = name.removesuffix(".gz").rpartition(".")[2]
    return not name.startswith(".") and extension in EXTENSIONS


def _by_language(urls: Sequence[str]) -> dict[str, str]:
    """Return each file by its language. `zh_TW` and `zh-tw` are one language."""
    found: dict[str, str] = {}
    spellings: dict[str, str] = {}
    for url in urls:
        name = url.rpartition("/")[2].partition(".")[0]
        require_language_name(name, url)
        if name == ALL:
            raise MetadataError(f"{url}: {ALL!r} is the one list for all texts; give it alone")
        other = spellings.setdefault(name.lower().replace("_", "-"), url)
        if other != url:
            raise MetadataError(f"{other} and {url}: two lists for one language; keep one")
        found[name] = url
    return found
