"""From options to how a run finds the metadata language of each text."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from clipcurate import storage
from clipcurate.errors import InvalidInputError
from clipcurate.hashing import hash_bytes, hash_file
from clipcurate.languages import BUILTIN, CodeMap, IdentifierModel, LanguageChoice
from clipcurate.languages.identify import Identifier, builtin_model, identifier_of
from clipcurate.metadata import ALL

_STEM, _SUFFIX = "language-model", ".ftz"


@dataclass(frozen=True)
class LanguageRequest:
    """What a user asks for.

    Attributes:
        identify: "builtin" or where a fastText model lies; "" to go by the pool's column.
        codes: codes and the metadata languages they lead to, besides the known ones.
    """

    identify: str = ""
    codes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PlannedLanguages:
    """How a run finds languages, and the model to publish into its folder, if it has its own."""

    choice: LanguageChoice | None
    model: bytes = b""

    def publish(self, folder: str) -> None:
        """Write the model into the run's folder."""
        if self.model:
            storage.publish_bytes(self.model, folder, _STEM, _SUFFIX)


def plan_languages(metadata: Collection[str], request: LanguageRequest) -> PlannedLanguages:
    """Fix how texts find their languages.

    Args:
        metadata: the metadata languages.
        request: what the user asks for.

    Raises:
        InvalidInputError: languages are asked for although one list serves all texts, or the model
            is none.
        NotFoundError: no such model, or the identifier is not installed.
    """
    if set(metadata) == {ALL}:
        if request.identify or request.codes:
            raise InvalidInputError(
                "--identify-languages and --language-map go with metadata per language: name a "
                "folder of files (en.json, zh.txt, …) with --metadata"
            )
        return PlannedLanguages(None)
    codes = CodeMap.for_metadata(metadata, request.codes)
    if not request.identify:
        return PlannedLanguages(LanguageChoice(codes))
    if request.identify == BUILTIN:
        Identifier(builtin_model())
        return PlannedLanguages(LanguageChoice(codes, IdentifierModel(hash_file(builtin_model()))))
    content = _read_model(request.identify)
    digest = hash_bytes(content)
    model = IdentifierModel(digest, storage.stored_name(_STEM, digest, _SUFFIX))
    return PlannedLanguages(LanguageChoice(codes, model), content)


def _read_model(url: str) -> bytes:
    content = storage.read_bytes(url)
    try:
        identifier_of(content)
    except InvalidInputError as error:
        raise InvalidInputError(
            f"{url}: not a fastText identifier; lid.176.bin and lid.176.ftz are some"
        ) from error
    return content
