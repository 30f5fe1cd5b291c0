"""What is the trie's own: its tables, its buffers. The rule is tested for all engines alike."""

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest

from clipcurate.matching.aho_corasick import AhoCorasick
from clipcurate.matching.token_trie import TokenTrie


def agree(entries: list[str], texts: list[str | None]) -> None:
    column = pa.array(texts, pa.string())
    ours, theirs = TokenTrie(entries).match(column), AhoCorasick(entries).match(column)
    assert np.array_equal(ours.row_offsets, theirs.row_offsets)
    assert np.array_equal(ours.entry_ids, theirs.entry_ids)


@pytest.mark.parametrize("length", [6, 7, 8, 9, 15, 16, 17, 24, 63, 64, 65])
def test_words_around_the_chunk_size_differ_in_any_byte(length: int) -> None:
    word = "x" * length
    variants = [word[:place] + "y" + word[place + 1 :] for place in range(length)]
    agree([word, *variants[::2], word[:-1]], [word, *variants, word + "x", " ".join(variants)])


def test_words_of_zero_bytes_differ_by_length() -> None:
    agree(["\0", "\0\0", "a\0", "\0a"], ["\0", "\0\0", "\0\0\0", "a\0 \0a", "a", ""])


def test_entries_with_empty_words() -> None:
    entries = [" ", "  ", "a ", " a", "a  b", " a ", ", "]
    agree(entries, ["", " ", "  ", "a", "a ", " a", "a  b", "a   b", "a,", ",a", ", ,"])


def test_more_hits_than_room_was_made_for() -> None:
    entries = [" ".join(["w"] * length) for length in range(1, 60)]
    agree(entries, [" ".join(["w"] * 100), None, "w", " ".join(["w"] * 59)])


def test_many_repeats_of_one_entry() -> None:
    agree(["a"] * 500 + ["a b"] * 300 + ["b"], ["a b a b", "b", "a"])


def test_a_large_random_dictionary() -> None:
    rng = random.Random(0)
    letters = "abcdefgh"
    words = ["".join(rng.choices(letters, k=rng.randrange(1, 12))) for _ in range(3000)]
    entries = sorted({" ".join(rng.choices(words, k=rng.randrange(1, 5))) for _ in range(20_000)})
    agree(entries, [" ".join(rng.choices(words, k=rng.randrange(40))) for _ in range(3000)])


def test_one_trie_serves_many_threads() -> None:
    trie = TokenTrie(["a", "b c", "c"])
    column = pa.array(["a b c"] * 20_000)
    with ThreadPoolExecutor(4) as pool:
        sums = list(pool.map(lambda _: int(trie.match(column).entry_ids.sum()), range(8)))
    assert sums == [60_000] * 8
