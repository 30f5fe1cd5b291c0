"""Language codes as people write them, and the metadata language that each leads to."""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from clipcurate import storage
from clipcurate.errors import InvalidInputError
from clipcurate.languages.table import ALIASES, EDITIONS
from clipcurate.metadata import require_language_name

OTHER = "other"
"""The metadata language of texts without a code, and of codes that nothing is known of."""

Names: TypeAlias = pa.DictionaryArray
"""A name per row, of few: dictionary<int32, string> of distinct names, without nulls."""

_LOCALE_TAIL = re.compile("[.@].*")


def normalize(code: str) -> str:
    """Return a code in one spelling: `pt_BR.UTF-8`, `pt-BR` and `__label__pt_br` are `pt-br`."""
    bare = _LOCALE_TAIL.sub("", code.strip().removeprefix("__label__"))
    return bare.lower().replace("_", "-")


def prefixes(tag: str) -> Iterator[str]:
    """Yield a tag and what is left of it as its subtags are cut, the longest first."""
    parts = tag.split("-")
    for length in range(len(parts), 0, -1):
        yield "-".join(parts[:length])


@dataclass(frozen=True)
class CodeMap:
    """Leads every code to a metadata language.

    Attributes:
        table: normalized code to metadata language.
    """

    table: Mapping[str, str]

    @classmethod
    def for_metadata(
        cls, languages: Collection[str], extra: Mapping[str, str] | None = None
    ) -> "CodeMap":
        """Return the map for a run's metadata.

        A code that is a metadata language's own name leads to it. Other known codes lead to their
        Wikipedia edition, under the name that the metadata give it (`zh_yue` or `zh-yue`), else
        under a shorter one (`zh`).

        Args:
            languages: the metadata languages.
            extra: codes and their metadata languages; they override all others.

        Example:
            >>> codes = CodeMap.for_metadata(["en", "zh", "zh-Hant"], {"gsw": "de"})
            >>> [codes.of(code) for code in ("zh_HK", "zh-Hant-TW", "cmn", "gsw-CH", "fr", "?")]
            ['zh', 'zh-Hant', 'zh', 'de', 'fr', 'other']
        """
        own = {normalize(name): name for name in languages}
        tags = {**dict(zip(EDITIONS, EDITIONS, strict=True)), **ALIASES}
        known = {code: _reach(tag, own) for code, tag in tags.items()}
        mine = {normalize(code): name for code, name in (extra or {}).items()}
        return cls({**known, **own, **mine})

    def of(self, code: str) -> str:
        """Return the metadata language of a code: of all of it, else of its longest known prefix.

        `other` where no prefix is known.
        """
        found = (self.table[tag] for tag in prefixes(normalize(code)) if tag in self.table)
        return next(found, OTHER)

    def of_column(self, codes: "pa.Array | pa.ChunkedArray") -> Names:
        """Return the metadata languages of a column of codes; null is no code."""
        if isinstance(codes, pa.ChunkedArray):
            codes = codes.combine_chunks()
        coded = pc.fill_null(codes, "").dictionary_encode()
        names = pa.array([self.of(code) for code in coded.dictionary.to_pylist()], pa.string())
        distinct = names.dictionary_encode()
        indices = distinct.indices.to_numpy()[coded.indices.to_numpy()]
        return pa.DictionaryArray.from_arrays(indices, distinct.dictionary)


def _reach(tag: str, own: Mapping[str, str]) -> str:
    """Return the metadata's name for a tag or its longest prefix, else the edition's code."""
    named = next((own[prefix] for prefix in prefixes(tag) if prefix in own), None)
    return named or next((prefix for prefix in prefixes(tag) if prefix in EDITIONS), tag)


def load_language_map(url: str) -> dict[str, str]:
    """Read a JSON object of codes and their metadata languages.

    Raises:
        NotFoundError: no such file.
        InvalidInputError: it is something else; or two spellings of one code disagree.
    """
    try:
        value = json.loads(storage.read_bytes(url))
    except ValueError as error:
        raise InvalidInputError(f"{url}: not JSON ({error})") from error
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value.values()):
        raise InvalidInputError(
            f'{url}: a JSON object of codes and languages is expected, e.g. {{"zh-Hant": "zh"}}'
        )
    found: dict[str, str] = {}
    for code, name in value.items():
        require_language_name(name, f"{url}, code {code!r}")
        if found.setdefault(normalize(code), name) != name:
            raise InvalidInputError(f"{url}: code {code!r} is there twice, with two languages")
    return found
