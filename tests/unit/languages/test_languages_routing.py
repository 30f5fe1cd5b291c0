import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from clipcurate.languages import (
    CodeMap,
    LanguageChoice,
    Names,
    Router,
    names_of,
    rows_by_name,
)
from clipcurate.matching import Matcher

MATCHERS = {
    "en": Matcher.build(["cat", "a", "a cat"]),
    "de": Matcher.build(["a", "katze"]),
    "all": Matcher.build(["cat"]),
}
TEXT = st.one_of(st.none(), st.lists(st.sampled_from(["a", "cat", "katze", "x"])).map(" ".join))
ROWS = st.lists(st.tuples(TEXT, st.sampled_from(["en", "de", "fr", ""])), max_size=12)


def names(values: list[str]) -> Names:
    return names_of(pa.array(values, pa.string()))


def texts_of(rows: list[tuple[str | None, str]]) -> pa.ChunkedArray:
    array = pa.array([text for text, _ in rows], pa.large_string())
    return pa.chunked_array([array[:5], array[5:]])


@given(ROWS)
def test_each_row_has_the_hits_of_its_languages_matcher_alone(
    rows: list[tuple[str | None, str]],
) -> None:
    router = Router(MATCHERS.get, lambda _: names([]))
    languages = names([name for _, name in rows])
    found = router.match(texts_of(rows), languages)
    assert len(found) == len(rows)
    for hits, (text, name) in zip(found, rows, strict=True):
        alone = MATCHERS.get(name)
        expected = alone.match(pa.array([text], pa.large_string())).entry_ids if alone else []
        assert hits.tolist() == list(expected)
    assert found.row_offsets.dtype == np.int64
    assert found.entry_ids.dtype == np.uint32


@given(st.lists(st.sampled_from(["en", "de", "", "zh"])))
def test_rows_by_name(every: list[str]) -> None:
    column = names(every)
    unused = pa.array([*column.dictionary.to_pylist(), "fr"], pa.string())
    for same in (column, pa.DictionaryArray.from_arrays(column.indices, unused)):
        found = rows_by_name(same)
        assert list(found) == sorted(set(every))
        for name, rows in found.items():
            assert rows.tolist() == [i for i, other in enumerate(every) if other == name]


def test_a_column_of_strings_as_names() -> None:
    column = pa.chunked_array([["en", None], ["", "en"]], pa.string())
    for same in (column, column.combine_chunks()):
        found = names_of(same)
        assert found.tolist() == ["en", "", "", "en"]
        assert found.type == pa.dictionary(pa.int32(), pa.string())
        assert found.dictionary.tolist() == ["en", ""]


def test_only_languages_that_occur_are_asked_for() -> None:
    asked: list[str] = []

    def matcher_for(name: str) -> Matcher | None:
        asked.append(name)
        return MATCHERS.get(name)

    router = Router(matcher_for, lambda _: names([]))
    router.match(
        texts_of([("a", ""), ("cat", "fr"), ("a", "en"), ("a", "en")]),
        names(["", "fr", "en", "en"]),
    )
    assert asked == ["en", "fr"]


def test_one_list_serves_all_texts_without_a_language() -> None:
    router = Router.of(None, "", MATCHERS.get)
    pairs = pa.table({"text": ["a cat", None], "lang": ["en", "de"]})
    assert router.choose(pairs).tolist() == ["all", "all"]
    assert router.match(pairs["text"], router.choose(pairs)).entry_ids.tolist() == [0]


def test_a_runs_choice_is_followed() -> None:
    router = Router.of(LanguageChoice(CodeMap.for_metadata(["en", "de"])), "", MATCHERS.get)
    pairs = pa.table({"text": ["a", "a"], "lang": ["EN", "de_AT"]})
    assert router.choose(pairs).tolist() == ["en", "de"]
    assert router.match(pairs["text"], router.choose(pairs)).entry_ids.tolist() == [1, 0]
