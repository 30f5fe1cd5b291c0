"""Equality with open_clip's tokenizer: on real captions, on odd Unicode, and on anything."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcurate.training.compat import open_clip
from clipcurate.training.tokenizer import ClipTokenizer

ours, theirs = ClipTokenizer(77), open_clip.SimpleTokenizer()

# What cleaning, the pattern and merging treat apart: entities, mojibake, contractions, special
# tokens, case beyond ASCII, digits and letters of other scripts, spaces and controls.
PIECES = [
    "&amp;amp;", "&lt;br&gt;", "&#x27;", "&", "\xe2\x80\x99", "schÃ¶n", "â€™s", "'s", "'LL", "'ſ",
    "<start_of_text>", "<end_of_text>", "<ſtart_of_text>", "İ", "ß", "ŒUVRE", "ﬁ", "K", "٣", "½",
    "日本語", "พี่", "👩‍👩‍👧", "e\u0301", "\u200b", "\xa0", "\u3000", "\x1c", "\x7f", "\x00", "\r\n",
    "\t", "\x1b[31m", "\ud800", "\ufeff", "“quoted”", "the", "Photo", "42", "--", " ", "\U000323b0",
]  # fmt: skip
words = st.one_of(
    st.sampled_from(PIECES), st.text(max_size=6), st.text("aA'<&;> 1\x1f", max_size=6)
)


@given(st.lists(words, max_size=12).map("".join))
def test_any_text_has_open_clips_tokens(text: str) -> None:
    assert ours.encode(text) == theirs.encode(text)


def test_batches_are_open_clips_padded_and_cut_before_the_end_of_text() -> None:
    texts = ["", "a photo of a cat", "word " * 75, "word " * 76, "Ünï " * 90, *PIECES]
    assert ours(texts).equal(theirs(texts))
    assert ours(texts).dtype == theirs(texts).dtype
    assert ours([]).equal(theirs([]))
    short = ClipTokenizer(8)(texts)
    assert short.equal(open_clip.SimpleTokenizer(context_length=8)(texts))
    assert short[2].tolist() == [49_406, *[2_653] * 6, 49_407]


def test_threads_share_a_tokenizer() -> None:
    texts = [f"{piece} number {i}" for i in range(20) for piece in PIECES]
    with ThreadPoolExecutor(4) as pool:
        shared = list(pool.map(ClipTokenizer(77).encode, texts * 4))
    assert shared == [theirs.encode(text) for text in texts] * 4


def test_the_cache_of_merged_words_has_a_bound() -> None:
    tokenizer = ClipTokenizer(77)
    tokenizer.encode("zxqv photo <start_of_text>")
    assert set(tokenizer._simple.cache) == {"<start_of_text>", "<end_of_text>"}


@pytest.mark.parametrize(
    ("pool", "count"),
    [
        ("cc3m_val", 15_000),
        ("coco_val2017", 10_000),
        ("bl_book_images", 10_000),
        ("cmoa_teenie", 2_000),
        ("emoji_multilingual", 20_000),
    ],
)
def test_real_captions_have_open_clips_tokens(shared_data: Path, pool: str, count: int) -> None:
    column = pq.read_table(shared_data / "pools" / f"{pool}.parquet", columns=["text"])["text"]
    texts = column.to_pylist()[:: max(1, len(column) // count)]
    assert len(texts) >= count
    assert [ours.encode(text) for text in texts] == [theirs.encode(text) for text in texts]
