import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcurate.errors import MetadataError
from clipcurate.hashing import hash_bytes
from clipcurate.metadata import Metadata

ENTRY = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)


def test_keeps_the_order_and_every_character() -> None:
    entries = [" b", "b", "b ", "B", "é", "e\u0301", "\0", "猫"]
    assert Metadata.from_entries(entries).entries == tuple(entries)


def test_refuses_repeats_and_empties_with_their_positions() -> None:
    with pytest.raises(MetadataError) as caught:
        Metadata.from_entries(["a", "", "b", "a", "", "b"])
    message = str(caught.value)
    assert message.startswith("4 bad entries")
    assert "1 is empty; 3 repeats 0 ('a'); 4 is empty; 5 repeats 2 ('b')." in message
    assert "--dedupe" in message


def test_shows_only_the_first_bad_entries() -> None:
    with pytest.raises(MetadataError) as caught:
        Metadata.from_entries(["a"] * 1000)
    assert "999 bad entries" in str(caught.value)
    assert len(str(caught.value)) < 500


def test_dedupe_keeps_the_first_of_each() -> None:
    assert Metadata.from_entries(["b", "", "a", "b", "a"], dedupe=True).entries == ("b", "a")


@pytest.mark.parametrize(("entries", "dedupe"), [([], False), ([], True), (["", ""], True)])
def test_refuses_to_hold_nothing(entries: list[str], dedupe: bool) -> None:
    with pytest.raises(MetadataError, match="no entry"):
        Metadata.from_entries(entries, dedupe=dedupe)


def test_fingerprint_by_hand() -> None:
    lengths = b"\x01\0\0\0\x02\0\0\0"
    assert Metadata(("a", "é")).fingerprint == hash_bytes(lengths + b"a\xc3\xa9")


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (("a", "b"), ("b", "a")),
        (("ab", "c"), ("a", "bc")),
        (("abc",), ("ab", "c")),
        (("a\0", "b"), ("a", "\0b")),
        (("a",), ("a\0",)),
        (("é",), ("e\u0301",)),
        (("a",), ("A",)),
    ],
)
def test_fingerprint_tells_apart(one: tuple[str, ...], two: tuple[str, ...]) -> None:
    assert Metadata(one).fingerprint != Metadata(two).fingerprint


@given(
    st.lists(ENTRY, min_size=1, max_size=8, unique=True), st.lists(ENTRY, min_size=1, max_size=8)
)
def test_equal_entries_and_only_they_have_equal_fingerprints(
    one: list[str], two: list[str]
) -> None:
    same = Metadata(tuple(one)).fingerprint == Metadata(tuple(two)).fingerprint
    assert same == (one == two)


@given(st.lists(ENTRY, min_size=1, max_size=8, unique=True))
def test_bytes_round_trip(entries: list[str]) -> None:
    metadata = Metadata(tuple(entries))
    again = Metadata.from_bytes(metadata.to_bytes())
    assert again == metadata
    assert again.fingerprint == metadata.fingerprint
