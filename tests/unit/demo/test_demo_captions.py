import random

import pytest

from demo import captions
from demo.render import GROUNDS, INKS, draw_look


def test_one_look_yields_many_kinds_of_caption() -> None:
    rng = random.Random("captions")
    texts = {captions.caption("umbrella", draw_look(rng), rng) for _ in range(500)}
    assert len(texts) > 200
    assert {"umbrella icon", "a photo of an umbrella", "Umbrella Icon"} <= texts
    assert all("umbrella" in text.lower() for text in texts)


def test_without_a_look_no_colour_is_named() -> None:
    rng = random.Random("plain")
    texts = {captions.caption("umbrella", None, rng) for _ in range(500)}
    assert len(texts) > 100
    assert all("umbrella" in text.lower() for text in texts)
    words = {word for text in texts for word in text.lower().replace("-", " ").split()}
    assert not words & {*INKS, *GROUNDS, "background"}


def test_file_names_look_like_file_names() -> None:
    rng = random.Random("files")
    names = [captions.file_name(rng) for _ in range(500)]
    assert len(set(names)) > 400
    assert not any(" " in name for name in names)


def test_boilerplate_repeats() -> None:
    rng = random.Random("pages")
    assert len({captions.boilerplate(rng) for _ in range(2_000)}) < 60


@pytest.mark.parametrize(
    ("word", "article"),
    [
        ("umbrella", "an"),
        ("euro sign", "a"),
        ("cat", "a"),
        ("at sign", "an"),
        ("eighth note", "an"),
    ],
)
def test_articles(word: str, article: str) -> None:
    assert captions.article(word) == article
