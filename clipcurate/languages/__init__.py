"""Which metadata language a text has: by a code of its pool, or by an identifier; and its hits."""

from clipcurate.languages.cache import DEFAULT_BYTES, ByteCache
from clipcurate.languages.choice import LanguageChoice
from clipcurate.languages.codes import OTHER, CodeMap, load_language_map
from clipcurate.languages.identify import BUILTIN, IdentifierModel
from clipcurate.languages.routing import MatcherFor, Router, rows_by_name

__all__ = [
    "BUILTIN",
    "DEFAULT_BYTES",
    "OTHER",
    "ByteCache",
    "CodeMap",
    "IdentifierModel",
    "LanguageChoice",
    "MatcherFor",
    "Router",
    "load_language_map",
    "rows_by_name",
]
