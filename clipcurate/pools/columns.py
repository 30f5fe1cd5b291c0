"""Which pool column plays which part."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from clipcurate.errors import PoolError

TEXT_ALIASES = ("text", "caption", "TEXT", "alt", "alt_text", "texts")
URL_ALIASES = ("url", "URL", "image_url")
UID_ALIASES = ("uid",)
LANG_ALIASES = ("lang", "language", "LANGUAGE")
PARTS = ("text", "url", "key", "uid", "lang")

_NEEDED = {"text": TEXT_ALIASES, "lang": LANG_ALIASES}
_WORDS = {"text": "text", "lang": "language"}


@dataclass(frozen=True)
class Columns:
    """The column that plays each part; None means the first well-known alias that is present.

    The image key falls back to the uid column, then `key`, `__key__`, then the url column.

    Attributes:
        needs_lang: refuse a shard without a language column (webdataset samples excepted).
        more_texts: columns whose texts follow those of the text column, in this order.
    """

    text: str | None = None
    url: str | None = None
    key: str | None = None
    uid: str | None = None
    lang: str | None = None
    needs_lang: bool = False
    more_texts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a text column that is named twice."""
        refuse_duplicates([self.text, *self.more_texts], "--text-column")

    def identity(self) -> dict[str, Any]:
        """Return what determines a pair's fields, for hashing."""
        more = {"more_texts": list(self.more_texts)} if self.more_texts else {}
        return {part: getattr(self, part) for part in PARTS} | more

    def requested(self) -> list[tuple[str, str]]:
        """Return the parts whose columns the user named, each with its column."""
        named = [(part, name) for part in PARTS if (name := getattr(self, part)) is not None]
        return named + [("text", name) for name in self.more_texts]


@dataclass(frozen=True)
class Roles:
    """The columns chosen among those that a shard or record has; None where there is none."""

    text: str | None
    url: str | None
    key: str | None
    uid: str | None
    lang: str | None
    more_texts: tuple[str, ...] = ()

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Return the columns of texts, in order."""
        return (() if self.text is None else (self.text,)) + self.more_texts

    @cached_property
    def described(self) -> tuple[str | None, ...]:
        """Return the columns of url, key, uid and lang."""
        return self.url, self.key, self.uid, self.lang

    @cached_property
    def used(self) -> frozenset[str | None]:
        """Return the columns that canonical fields replace; all others stay as extras.

        A column that is only the image key stays, because the key field may be re-typed.
        """
        return frozenset({*self.texts, self.url, self.uid, self.lang})


@lru_cache(maxsize=4096)
def choose(columns: Columns, names: tuple[str, ...]) -> Roles:
    """Choose a column for each part among `names`."""
    url = _first(columns.url, URL_ALIASES, names)
    uid = _first(columns.uid, UID_ALIASES, names)
    keys = tuple(name for name in (uid, "key", "__key__", url) if name is not None)
    return Roles(
        text=_first(columns.text, TEXT_ALIASES, names),
        url=url,
        key=_first(columns.key, keys, names),
        uid=uid,
        lang=_first(columns.lang, LANG_ALIASES, names),
        more_texts=tuple(name for name in columns.more_texts if name in names),
    )


@lru_cache(maxsize=4096)
def text_fields(names: tuple[str, ...]) -> tuple[str | None, str | None]:
    """Choose the fields of a text and of its language among those of a struct."""
    return _first(None, TEXT_ALIASES, names), _first(None, LANG_ALIASES, names)


def require(columns: Columns, names: tuple[str, ...], where: str) -> Roles:
    """As `choose`, but every requested column and a text must be there.

    Raises:
        PoolError: names the file `where`, the columns it has and the option to set.
    """
    for part, name in missing(columns, names).items():
        wanted = (
            f"column {name!r}" if name else f"{_WORDS[part]} column ({', '.join(_NEEDED[part])})"
        )
        remedy = f"name the right one with --{part}-column"
        if part == "lang" and not name:
            remedy += ", or add --identify-languages builtin"
        raise PoolError(f"{where}: no {wanted}; it has: {', '.join(names)}; {remedy}")
    return choose(columns, names)


def missing(columns: Columns, names: Collection[str]) -> dict[str, str]:
    """Return the parts without their column: the requested one, or "" where no alias is there.

    A text is always needed, a language where `needs_lang` says so.
    """
    lacking = {part: name for part, name in columns.requested() if name not in names}
    for part in ("text", "lang") if columns.needs_lang else ("text",):
        if getattr(columns, part) is None and not any(name in names for name in _NEEDED[part]):
            lacking[part] = ""
    return lacking


def refuse_duplicates(names: Collection[str | None], where: str) -> None:
    """Raise PoolError if two columns share a name: which one is meant cannot be known."""
    given = [name for name in names if name is not None]
    twice = sorted(name for name in {*given} if given.count(name) > 1)
    if twice:
        raise PoolError(f"{where}: column {twice[0]!r} occurs twice; rename one of them")


def _first(requested: str | None, aliases: tuple[str, ...], names: tuple[str, ...]) -> str | None:
    wanted = aliases if requested is None else (requested,)
    return next((name for name in wanted if name in names), None)
