"""How a run finds the metadata language of each text. Part of its plan and of its identity."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from clipcurate.languages.codes import CodeMap, Names
from clipcurate.languages.identify import IdentifierModel, load_identifier


@dataclass(frozen=True)
class LanguageChoice:
    """Where a text's code comes from, and where codes lead.

    Attributes:
        codes: leads codes to metadata languages.
        model: the identifier that gives the codes; None where the pool's language column does.
    """

    codes: CodeMap
    model: IdentifierModel | None = None

    def chooser(self, folder: str) -> Callable[[pa.Table], Names]:
        """Return what finds the metadata language of each row of a table of pairs.

        Args:
            folder: the run's folder, where a model of its own lies.

        Raises:
            NotFoundError, InvalidInputError, StorageError: the model cannot be loaded.
        """
        if self.model is None:
            return lambda pairs: self.codes.of_column(pairs["lang"])
        identifier = load_identifier(self.model, folder)
        return lambda pairs: self.codes.of_column(identifier.codes(pairs["text"]))

    def identity(self) -> dict[str, Any]:
        """Return what determines the languages of texts, for hashing."""
        model = None if self.model is None else self.model.hash
        return {"codes": dict(self.codes.table), "identifier": model}

    def to_json(self) -> dict[str, Any]:
        """Return the choice as a JSON object; `from_json` is the inverse."""
        model = None if self.model is None else self.model.to_json()
        return {"codes": dict(self.codes.table), "identifier": model}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "LanguageChoice":
        """Rebuild a choice from `to_json`."""
        model = value["identifier"]
        return cls(CodeMap(value["codes"]), model and IdentifierModel(**model))
