from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clipcurate.errors import InvalidInputError, NotFoundError
from clipcurate.matching import ENGINES, RULES, Matcher
from clipcurate.metadata import Metadata

NASTY = [*",.;:?!`", *"  \t\n\r\v\0'\"-_/()", "\u00a0", "\u2028", "\u3000", "\u200b", "\u0301"]
LETTERS = ["a", "b", "A", "é", "ß", "猫", "日", "ก", "ำ", "😀", "👨‍👩‍👧", "🇩🇪", "，", "。"]
TEXT = st.lists(st.sampled_from([*NASTY, *LETTERS, "a b", " a ", "a  b"]), max_size=14).map("".join)
ENTRY = st.lists(st.sampled_from([*NASTY, *LETTERS, "a b", "a  b", " "]), min_size=1, max_size=5)


def occurs(entry: str, text: str) -> bool:
    """The rule as published, step by step."""
    text = f" {text} "
    for mark in [",", ".", ";", ":", "?", "!", "`"]:
        text = text.replace(mark, f" {mark} ")
    for blank in ["\t", "\n", "\r"]:
        text = text.replace(blank, " ")
    return f" {entry} " in text


def hits(
    entries: list[str], column: pa.Array | pa.ChunkedArray | list[str | None]
) -> list[list[int]]:
    texts = pa.array(column, pa.string()) if isinstance(column, list) else column
    found = []
    for engine in ENGINES:
        matches = Matcher.build(entries, engine=engine).match(texts)
        assert matches.row_offsets.dtype == np.int64
        assert matches.entry_ids.dtype == np.uint32
        found.append([matches[row].tolist() for row in range(len(matches))])
    assert all(rows == found[0] for rows in found)
    return found[0]


@pytest.mark.parametrize(
    ("entry", "text", "expected"),
    [
        ("dog", "dog", True),
        ("dog", "a dog.", True),
        ("dog", "Dog", False),
        ("dog", "dogs", False),
        ("dog", "hotdog", False),
        ("photo", "(photo)", False),
        ("photo", "photo-realistic", False),
        ("photo", "a/photo", False),
        ("photo", "'photo'", False),
        ("photo", "_photo_", False),
        ("new york", "in new york, today", True),
        ("new york", "new  york", False),
        ("new  york", "new  york", True),
        ("new york", "new\tyork", True),
        ("new york", "new\nyork", True),
        ("new york", "new\ryork", True),
        ("new york", "new\r\nyork", False),
        ("new york", "new\u00a0york", False),
        ("york", "new\u00a0york", False),
        ("york", "new\u3000york", False),
        ("york", "new\vyork", False),
        ("new\tyork", "new\tyork", False),
        ("new\nyork", "new\nyork", False),
        ("St. Louis", "St. Louis", False),
        ("St . Louis", "St. Louis", False),
        ("St .  Louis", "St. Louis", True),
        ("a , b", "a,b", True),
        ("a , b", "a, b", False),
        ("a ,  b", "a, b", True),
        (",", "a,b", True),
        ("a,b", "a,b", False),
        ("!", "Hi!", True),
        ("! !", "Hi!!", False),
        ("!  !", "Hi!!", True),
        ("`", "`x`", True),
        ("x", "`x`", True),
        ("'", "it's", False),
        ("c++", "c++ code", True),
        ("café", "cafe\u0301", False),
        ("cafe\u0301", "cafe\u0301", True),
        ("猫", "黒猫", False),
        ("猫", "黒 猫", True),
        ("a", "a，b", False),
        ("😀", "so 😀!", True),
        (" ", "", False),
        (" ", "a  b", False),
        (" ", "a   b", True),
        (" ", ",", False),
        (" ", ",,", False),
        (" ", ", ,", True),
        ("a\0b", "a\0b", True),
        ("a", "a\0b", False),
        (" dog", "a  dog", True),
        (" dog", "a dog", False),
        (" dog", "dog", False),
    ],
)
def test_consequences_of_the_rule(entry: str, text: str, expected: bool) -> None:
    assert occurs(entry, text) is expected
    assert hits([entry], [text]) == [[0] if expected else []]


@pytest.mark.parametrize(
    "noise",
    [
        "control_14ct",
        "cudd2008",
        "product-img",
        "Skirmisher-Main-440x412",
        "A4omote",
        "johnny_cash_chili_dog (2)",
        "8533 GOLDEN RIDGE COURT",
    ],
)
def test_published_noise_matches_nothing(noise: str) -> None:
    words = ["control", "product", "img", "Skirmisher", "Main", "A4", "johnny", "cash", "chili"]
    words += ["dog", "2", "8533 golden ridge court", "golden", "ridge", "court", "Golden", "Court"]
    assert hits(words, [noise]) == [[]]


def test_all_overlapping_entries_match_once_each() -> None:
    entries = ["new york city", "new york", "york city", "york", "city", "new", "new york new"]
    assert hits(entries, ["new york city"]) == [[0, 1, 2, 3, 4, 5]]
    assert hits(entries, ["new york new york"]) == [[1, 3, 5, 6]]
    assert hits(["a a"], ["a a a a"]) == [[0]]


def test_neighbours_share_the_space_between_them() -> None:
    assert hits(["a", "b"], ["a b"]) == [[0, 1]]


def test_duplicate_entries_all_match() -> None:
    assert hits(["dog", "cat", "dog", "dog"], ["cat dog", "dog"]) == [[0, 1, 2, 3], [0, 2, 3]]


def test_ids_ascend_whatever_the_order_in_the_text() -> None:
    entries = [f"w{i}" for i in range(300)]
    assert hits(entries, [" ".join(reversed(entries))]) == [list(range(300))]


COLUMN = ["a b", None, "b", "", "c a"]
EXPECTED = [[0, 1], [], [1], [], [0]]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(COLUMN, pa.string()),
        pa.array(COLUMN, pa.large_string()),
        pa.array(COLUMN).dictionary_encode(),
        pa.array(COLUMN, pa.large_string()).dictionary_encode(),
        pa.chunked_array([COLUMN[:2], [], COLUMN[2:]], pa.string()),
        pa.chunked_array([pa.array(COLUMN[:1]), pa.array(COLUMN[1:])]).dictionary_encode(),
        pa.array(["b", *COLUMN, "a"])[1:-1],
        pa.array(["b", *COLUMN, "a"]).dictionary_encode()[1:-1],
        pa.chunked_array([["b", *COLUMN], ["a"]], pa.large_string())[1:-1],
        pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 4, 3]), [*COLUMN[:3], "c a", ""]),
    ],
    ids=str,
)
def test_every_kind_of_string_column(column: pa.Array | pa.ChunkedArray) -> None:
    assert hits(["a", "b"], column) == EXPECTED


@pytest.mark.parametrize(
    "column", [pa.array([], pa.string()), pa.chunked_array([], pa.large_string())], ids=str
)
def test_no_texts(column: pa.Array | pa.ChunkedArray) -> None:
    assert hits(["a"], column) == []


def test_only_nulls_and_no_entries() -> None:
    assert hits(["a"], [None, None]) == [[], []]
    assert hits([], ["a", None]) == [[], []]


def test_a_megabyte_of_text() -> None:
    assert hits(["needle", "y" * 100_000], ["x " * 500_000 + "needle " + "y" * 100_000]) == [[0, 1]]


@pytest.mark.parametrize("column", [pa.array([1]), pa.array([b"a"]), pa.array([["a"]])], ids=str)
def test_other_columns_are_refused(column: pa.Array) -> None:
    with pytest.raises(InvalidInputError, match="texts must be strings, this column holds"):
        Matcher.build(["a"]).match(column)


def test_what_is_unknown_is_refused_with_what_is_known() -> None:
    with pytest.raises(InvalidInputError, match="rule 'metaclip9'; known: metaclip1"):
        Matcher.build(["a"], rule="metaclip9")
    with pytest.raises(InvalidInputError, match="engine 'grep'; known: token-trie, aho-corasick"):
        Matcher.build(["a"], engine="grep")


def test_the_empty_entry_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="entry 2 is empty"):
        Matcher.build(["a", "b", ""])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rule", RULES)
def test_save_and_load(tmp_path: Path, rule: str, engine: str) -> None:
    entries = ["b", "a", " ", "a\0b", "猫", "a", "e\u0301"]
    Matcher.build(entries, rule, engine).save(tmp_path / "matcher")
    again = Matcher.load(tmp_path / "matcher")
    assert (again.entries, again.rule, again.engine) == (tuple(entries), rule, engine)
    assert again.match(pa.array(["a 猫"])).entry_ids.tolist() == [1, 4, 5]
    assert again.fingerprint == Metadata(tuple(entries)).fingerprint


def test_other_files_are_no_matchers(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="missing"):
        Matcher.load(tmp_path / "missing")
    path = tmp_path / "matcher"
    Matcher.build(["a", "b"]).save(path)
    whole = path.read_bytes()
    for content in (b"", b"a\nb\n", whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(InvalidInputError, match="not a saved matcher"):
            Matcher.load(path)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, pa.schema([])):
        pass
    with pytest.raises(InvalidInputError, match="not a saved matcher"):
        Matcher.load(path)


@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=2500, deadline=None)
@given(
    entries=st.lists(ENTRY.map("".join), min_size=1, max_size=8),
    texts=st.lists(TEXT | st.none(), max_size=4),
)
@example(entries=[" "], texts=["", " ", "  ", ",,", "\t\n"])
@example(entries=["a", "b", "a  b", "a ,  b"], texts=["a  b", "a, b", "a\t\tb", "b,a"])
def test_equals_the_rule_word_for_word(
    engine: str, entries: list[str], texts: list[str | None]
) -> None:
    matches = Matcher.build(entries, engine=engine).match(pa.array(texts, pa.large_string()))
    expected = [
        [i for i, entry in enumerate(entries) if text is not None and occurs(entry, text)]
        for text in texts
    ]
    assert [matches[row].tolist() for row in range(len(matches))] == expected


@settings(max_examples=100, deadline=None)
@given(TEXT, st.lists(ENTRY.map("".join), min_size=1, max_size=6))
def test_entries_cut_from_the_text_itself(text: str, more: list[str]) -> None:
    words = [word for word in text.split(" ") if word]
    entries = [*words, *(" ".join(words[i : i + 2]) for i in range(len(words) - 1)), *more]
    assert hits(entries, [text]) == [[i for i, e in enumerate(entries) if occurs(e, text)]]
