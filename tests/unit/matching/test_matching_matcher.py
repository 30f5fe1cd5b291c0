import string
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
LETTERS = ["a", "b", "A", "é", "ß", "猫", "日", "カ", "ก", "한", "😀", "👨‍👩‍👧", "🇩🇪", "，", "。"]
TEXT = st.lists(st.sampled_from([*NASTY, *LETTERS, "a b", " a ", "a  b"]), max_size=14).map("".join)
ENTRY = st.lists(st.sampled_from([*NASTY, *LETTERS, "a b", "a  b", " "]), min_size=1, max_size=5)


def is_open(character: str) -> bool:
    """Return if it needs no space beside it by rule metaclip2; enough for the tests here."""
    return (
        character in string.punctuation
        or character in "，。、；：？！“”‘’（）【】《》〈〉「」『』～—"
        or "\u4e00" <= character <= "\u9fff"
        or "\u0e00" <= character <= "\u0e7f"
    )


def occurs(entry: str, text: str, rule: str = "metaclip1") -> bool:
    """The rule as published, step by step."""
    text = f" {text.strip() if rule == 'metaclip2' else text} "
    for mark in [",", ".", ";", ":", "?", "!", "`"]:
        text = text.replace(mark, f" {mark} ")
    for blank in ["\t", "\n", "\r"]:
        text = text.replace(blank, " ")
    before = "" if rule == "metaclip2" and is_open(entry[0]) else " "
    after = "" if rule == "metaclip2" and is_open(entry[-1]) else " "
    return before + entry + after in text


def hits(
    entries: list[str],
    column: pa.Array | pa.ChunkedArray | list[str | None],
    rule: str = "metaclip1",
) -> list[list[int]]:
    texts = pa.array(column, pa.string()) if isinstance(column, list) else column
    found = []
    for engine in ENGINES:
        matches = Matcher.build(entries, rule, engine).match(texts)
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
    ("entry", "text", "expected"),
    [
        ("猫", "黒猫が", True),
        ("黒猫", "この黒猫は", True),
        ("黒猫", "黒 猫", False),
        ("黒 猫", "この黒 猫は", True),
        ("猫", "猫", True),
        ("カメラ", "新型カメラ", False),
        ("カメラ", "新型 カメラ", True),
        ("カメラ", "カメラ、", False),
        ("猫カフェ", "黒猫カフェ", True),
        ("猫カフェ", "黒猫カフェへ", False),
        ("한국", "한국어", False),
        ("แมว", "ลูกแมวดำ", True),
        ("iPhone手机", "新iPhone手机壳", False),
        ("iPhone手机", "新 iPhone手机壳", True),
        ("手机 case", "的手机 case", True),
        ("手机 case", "手机 cases", False),
        ("dog", "hot-dog", False),
        ("hot-dog", "a hot-dog!", True),
        ("-dog", "hot-dog", True),
        ("dog", "dog!", True),
        ("(2)", "photo(2).jpg", True),
        ("(2)", "photo(2)", True),
        ("'", "it's", True),
        ("it's", "it's", True),
        ("U.S.", "U.S.", False),
        ("U .", "U.S.", True),
        (",", "a,b", True),
        ("，", "，", True),
        ("a，b", "a，b", True),
        ("a", "a，b", False),
        (" dog", " dog", False),
        (" dog", "a  dog", True),
        ("! ", "Hi! there", True),
        ("dog", "\u3000dog\u00a0", True),
        ("dog", "a\u3000dog", False),
        ("猫 ", "猫  a", True),
        ("猫 ", "猫 a", False),
    ],
)
def test_consequences_of_rule_metaclip2(entry: str, text: str, expected: bool) -> None:
    assert occurs(entry, text, "metaclip2") is expected
    assert hits([entry], [text], "metaclip2") == [[0] if expected else []]


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
    assert hits([], ["a", None, "x" * 20]) == [[], [], []]


@pytest.mark.parametrize("rule", RULES)
def test_ten_megabytes_of_text(rule: str) -> None:
    text = "x " * 3_000_000 + "needle " + "y" * 100_000 + ",猫" * 1_000_000
    entries = ["needle", "y" * 100_000, " ".join(["x"] * 40), "猫 ,"]
    assert hits(entries, [text], rule) == [[0, 1, 2, 3]]
    assert hits(["b", "a"], ["a", text + " b", "b"], rule) == [[1], [0], [0]]


@pytest.mark.parametrize("column", [pa.array([1]), pa.array([b"a"]), pa.array([["a"]])], ids=str)
def test_other_columns_are_refused(column: pa.Array) -> None:
    with pytest.raises(InvalidInputError, match="texts must be strings, this column holds"):
        Matcher.build(["a"]).match(column)


def test_what_is_unknown_is_refused_with_what_is_known() -> None:
    with pytest.raises(InvalidInputError, match="rule 'metaclip9'; known: metaclip1, metaclip2"):
        Matcher.build(["a"], rule="metaclip9")
    with pytest.raises(InvalidInputError, match="engine 'grep'; known: token-trie, aho-corasick"):
        Matcher.build(["a"], engine="grep")


def test_the_empty_entry_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="entry 2 is empty"):
        Matcher.build(["a", "b", ""])
    with pytest.raises(InvalidInputError, match="entry 1 is empty"):
        Matcher.build(["a", None])  # type: ignore[list-item]
    with pytest.raises(InvalidInputError, match="no UTF-8 form"):
        Matcher.build(["\ud800"])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rule", RULES)
def test_save_and_load(tmp_path: Path, rule: str, engine: str) -> None:
    entries = ["b", "a", " ", "a\0b", "猫", "a", "e\u0301"]
    Matcher.build(entries, rule, engine).save(tmp_path / "matcher")
    again = Matcher.load(tmp_path / "matcher")
    assert (again.entries.to_pylist(), again.rule, again.engine) == (entries, rule, engine)
    assert again.match(pa.array(["a 猫"])).entry_ids.tolist() == [1, 4, 5]
    assert again.fingerprint == Metadata(tuple(entries)).fingerprint


def test_other_files_are_no_matchers(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="missing"):
        Matcher.load(tmp_path / "missing")
    path = tmp_path / "matcher"
    Matcher.build(["a", "b"]).save(path)
    whole = path.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    for content in (b"", b"a\nb\n", whole[: len(whole) // 2], whole[:-1], flipped):
        path.write_bytes(content)
        with pytest.raises(InvalidInputError, match="not a saved matcher"):
            Matcher.load(path)
    for old, new in [(b'"U64"', b'"I64"'), (b"metaclip1", b"metaclip2"), (b"word_p", b"wird_p")]:
        path.write_bytes(whole.replace(old, new))
        with pytest.raises(InvalidInputError, match="not a saved matcher"):
            Matcher.load(path)
    path.write_bytes(whole.replace(rb"\"format\": \"2-", rb"\"format\": \"1-"))
    with pytest.raises(
        InvalidInputError, match=r"format 1-.*, this version reads 2-.*build it anew"
    ):
        Matcher.load(path)
    for content in (b"\4\0\0\0\0\0\0\0null", b"\1\0\0\0\0\0\0\0001"):
        path.write_bytes(content)
        with pytest.raises(InvalidInputError, match="not a saved matcher"):
            Matcher.load(path)
    with pytest.raises(InvalidInputError, match="not a saved matcher"):
        Matcher.load(tmp_path)


def test_loaded_tables_are_mapped_and_as_large_as_the_built_ones(tmp_path: Path) -> None:
    built = Matcher.build([f"w{i} w{i + 1}" for i in range(1000)])
    built.save(tmp_path / "matcher")
    loaded = Matcher.load(tmp_path / "matcher")
    assert 0 < loaded.nbytes == built.nbytes < (tmp_path / "matcher").stat().st_size
    assert all(not array.flags.owndata for array in loaded._engine.tables.values())


@pytest.mark.parametrize("rule", RULES)
def test_white_space_around_long_texts_is_skipped_once(rule: str) -> None:
    blank = " \u3000" * 300_000
    text = f"{blank}{'ab ' * 300_000}b{blank}"
    texts = pa.array([text, text.strip()])
    matches = Matcher.build(["ab ab", "b", " ", "ab  "], rule).match(texts)
    assert matches[0].tolist() == matches[1].tolist() == [0, 1]


@pytest.mark.parametrize("engine", ENGINES)
def test_equal_metadata_make_equal_files(tmp_path: Path, engine: str) -> None:
    for name in "ab":
        Matcher.build(["a b", "b", "a b c"], engine=engine).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("engine", "examples"), [("token-trie", 10_000), ("aho-corasick", 1500)])
def test_equals_the_rule_word_for_word(rule: str, engine: str, examples: int) -> None:
    @settings(max_examples=examples, database=None)
    @given(
        entries=st.lists(ENTRY.map("".join), min_size=1, max_size=8),
        texts=st.lists(TEXT | st.none(), max_size=4),
    )
    @example(entries=[" "], texts=["", " ", "  ", ",,", "\t\n"])
    @example(entries=["a", "b", "a  b", "a ,  b"], texts=["a  b", "a, b", "a\t\tb", "b,a"])
    def check(entries: list[str], texts: list[str | None]) -> None:
        matches = Matcher.build(entries, rule, engine).match(pa.array(texts, pa.large_string()))
        expected = [
            [i for i, entry in enumerate(entries) if text is not None and occurs(entry, text, rule)]
            for text in texts
        ]
        assert [matches[row].tolist() for row in range(len(matches))] == expected

    check()


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=400)
@given(TEXT.filter(str.strip), st.data())
def test_entries_cut_from_the_text_itself(rule: str, text: str, data: st.DataObject) -> None:
    ends = st.tuples(st.integers(0, len(text) - 1), st.integers(1, 8))
    cuts = data.draw(st.lists(ends, min_size=1, max_size=8))
    entries = [text[first : first + length] for first, length in cuts]
    assert hits(entries, [text], rule) == [
        [i for i, e in enumerate(entries) if occurs(e, text, rule)]
    ]
