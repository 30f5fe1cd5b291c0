import re

from PIL import Image, ImageFont

from demo.concepts import CONCEPTS
from demo.render import font_path, glyph_mask


def test_there_are_at_least_two_hundred_concepts_with_names_and_glyphs_of_their_own() -> None:
    assert len(CONCEPTS) >= 200
    assert len({concept.name for concept in CONCEPTS}) == len(CONCEPTS)
    assert len({concept.glyph for concept in CONCEPTS}) == len(CONCEPTS)


def test_names_are_one_to_three_lower_case_words_that_can_match() -> None:
    assert all(re.fullmatch(r"[a-z]+( [a-z]+){0,2}", concept.name) for concept in CONCEPTS)


def test_the_font_has_every_glyph() -> None:
    font = ImageFont.truetype(str(font_path()), 100)
    missing = bytes(font.getmask("\U0010ffff"))
    assert not [c.name for c in CONCEPTS if bytes(font.getmask(c.glyph)) == missing]


def test_no_two_glyphs_look_the_same_at_the_size_of_a_thumbnail() -> None:
    thumbnails = {c.name: _thumbnail(glyph_mask(c.glyph)) for c in CONCEPTS}
    assert len(set(thumbnails.values())) == len(CONCEPTS)


def _thumbnail(mask: Image.Image) -> bytes:
    square = Image.new("L", (max(mask.size),) * 2, 0)
    square.paste(mask, ((square.width - mask.width) // 2, (square.height - mask.height) // 2))
    return square.resize((16, 16), Image.Resampling.BOX).point(lambda level: level // 128).tobytes()
