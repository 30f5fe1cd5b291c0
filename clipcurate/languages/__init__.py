"""Which metadata language a text has: by a code of its pool, or by an identifier; and its hits."""

from clipcurate.languages.cache import DEFAULT_BYTES, ByteCache
from clipcurate.languages.choice import LanguageChoice
from clipcurate.languages.codes import OTHER, CodeMap, Names, load_language_map
from clipcurate.languages.identify import BUILTIN, IdentifierModel
from clipcurate.languages.routing import MatcherFor, Router, names_of, rows_by_name

__all__ = [
    "BUILTIN",
    "DEFAULT_BYTES",
    "OTHER",
    "ByteCache",
    "CodeMap",
    "IdentifierModel",
    "LanguageChoice",
    "MatcherFor",
    "Names",
    "Router",
    "load_language_map",
    "names_of",
    "rows_by_name",
]
