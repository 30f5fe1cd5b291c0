"""Matchers' tables in storage: built once, then loaded by every process that needs them."""

import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from clipcurate import storage
from clipcurate.errors import InvalidInputError, NotFoundError, StorageError
from clipcurate.matching import Matcher, tables_key
from clipcurate.metadata import Metadata

log = logging.getLogger(__name__)


def default_tables_folder() -> Path:
    """Return a folder of this user's own below the temporary directory."""
    return Path(tempfile.gettempdir()) / f"clipcurate-{os.getuid()}" / "tables"


class TableStore:
    """Tables by key, below a folder of storage; `local` is for those that cannot be read in place.

    Tables in local storage are mapped into memory where they lie, remote ones are fetched once.
    """

    def __init__(self, local: Path) -> None:
        self._local = local

    def matcher(
        self, folder: str, fingerprint: str, rule: str, engine: str, read: Callable[[], Metadata]
    ) -> Matcher:
        """Load a matcher, or build it and leave its tables in storage.

        Args:
            folder: where the tables lie; "" for the local folder.
            fingerprint: of the metadata.
            rule: matching rule.
            engine: matching engine.
            read: reads the metadata; called only to build.

        Raises:
            StorageError: a folder cannot be written, or is another user's.
        """
        key = tables_key(fingerprint, rule, engine)
        url = storage.join(folder, key) if folder else str(self._private() / key)
        path = self._path(url, key)
        if (found := _load(path, url, key)) is not None:
            return found
        if str(path) != url and storage.exists(url):
            storage.fetch(url, path)
            if (found := _load(path, url, key)) is not None:
                return found
        return self._build(url, path, read(), rule, engine)

    def _path(self, url: str, key: str) -> Path:
        """Return where tables are mapped from: the place itself if it is local."""
        if storage.is_local(url):
            return Path(storage.filesystem(url)[1])
        return self._private() / key

    def _build(self, url: str, path: Path, metadata: Metadata, rule: str, engine: str) -> Matcher:
        log.info("building a matcher", extra={"entries": len(metadata.entries), "tables": url})
        matcher = Matcher.build(metadata.entries, rule, engine)
        with storage.staged(url.rpartition("/")[0], path.name) as directory:
            with storage.writing(url):
                matcher.save(directory / path.name)
            storage.place(directory / path.name, url)
        return matcher

    def _private(self) -> Path:
        """Return the local folder; tables that others could change would be run as they are."""
        with storage.writing(str(self._local)):
            self._local.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._local.stat().st_uid != os.getuid():
            raise StorageError(
                f"{self._local}: belongs to another user; name a folder of your own with "
                "CLIPCURATE_MATCHER_TABLES_FOLDER"
            )
        return self._local


def _load(path: Path, url: str, key: str) -> Matcher | None:
    """Return the matcher of a tables file; None where there is none of use."""
    try:
        found = Matcher.load(path)
    except NotFoundError:
        return None
    except InvalidInputError as error:
        log.warning("these tables are of no use: %s", error, extra={"tables": url})
        return None
    if tables_key(found.fingerprint, found.rule, found.engine) != key:
        log.warning("these are another matcher's tables", extra={"tables": url})
        return None
    return found
