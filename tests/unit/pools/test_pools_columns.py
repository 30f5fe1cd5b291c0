import pytest

from clipcurate.errors import PoolError
from clipcurate.pools.columns import Columns, choose, refuse_duplicates, require


def test_the_first_alias_that_is_present_plays_the_part() -> None:
    roles = choose(Columns(), ("alt", "caption", "URL", "LANGUAGE", "uid", "key"))
    assert (roles.text, roles.url, roles.lang, roles.uid) == ("caption", "URL", "LANGUAGE", "uid")


@pytest.mark.parametrize(
    ("names", "key"),
    [
        (("text", "url", "__key__", "key", "uid"), "uid"),
        (("text", "url", "__key__", "key"), "key"),
        (("text", "url", "__key__"), "__key__"),
        (("text", "url"), "url"),
        (("text",), None),
    ],
)
def test_the_image_key_falls_back_in_order(names: tuple[str, ...], key: str | None) -> None:
    assert choose(Columns(), names).key == key


def test_the_image_key_follows_named_columns() -> None:
    assert choose(Columns(url="href"), ("text", "href")).key == "href"
    assert choose(Columns(uid="hash"), ("text", "hash", "url")).key == "hash"


def test_several_text_columns() -> None:
    columns = Columns(text="alt", more_texts=("title", "caption"))
    roles = require(columns, ("title", "alt", "caption", "url"), "a.csv")
    assert roles.texts == ("alt", "title", "caption")
    assert roles.used == {"alt", "title", "caption", "url", None}
    assert choose(columns, ("caption",)).texts == ("caption",)
    with pytest.raises(PoolError, match=r"a\.csv: no column 'title'.*--text-column"):
        require(columns, ("alt", "caption"), "a.csv")
    with pytest.raises(PoolError, match="'alt' occurs twice"):
        Columns(text="alt", more_texts=("alt",))
    assert "more_texts" not in Columns(text="alt").identity()
    assert columns.identity()["more_texts"] == ["title", "caption"]


def test_a_column_that_is_only_the_key_is_not_used_up() -> None:
    assert choose(Columns(key="id"), ("text", "id")).used == {"text", None}


@pytest.mark.parametrize("part", ["text", "url", "key", "uid", "lang"])
def test_a_missing_requested_column_names_file_columns_and_option(part: str) -> None:
    with pytest.raises(PoolError) as error:
        require(Columns(**{part: "nope"}), ("text", "size"), "a.parquet")
    for fact in ("a.parquet", "nope", "text, size", f"--{part}-column"):
        assert fact in str(error.value)


def test_no_text_alias_is_an_error_that_lists_them() -> None:
    with pytest.raises(PoolError, match=r"no text column .*alt_text.*--text-column"):
        require(Columns(), ("body",), "a.parquet")


def test_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(PoolError, match="'a' occurs twice"):
        refuse_duplicates(["a", "b", "a"], "x.csv")


def test_a_language_column_is_needed_where_languages_are() -> None:
    needy = Columns(needs_lang=True)
    assert require(needy, ("text", "language"), "a.csv").lang == "language"
    assert require(Columns(lang="tongue", needs_lang=True), ("text", "tongue"), "a.csv").lang
    with pytest.raises(
        PoolError, match=r"a\.csv: no language column .*LANGUAGE.*text, url.*"
    ) as error:
        require(needy, ("text", "url"), "a.csv")
    assert "--lang-column, or add --identify-languages builtin" in str(error.value)
    assert needy.identity() == Columns().identity(), "it refuses, it changes nothing"
