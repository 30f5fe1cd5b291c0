"""Writes texts as the web does: captions that help, captions of something else, and file names."""

import random
from collections.abc import Callable
from enum import StrEnum

from demo.render import Look


class TextKind(StrEnum):
    """What a text has to do with its picture."""

    CAPTION = "caption"
    """Names the picture's concept, in one of many shapes and spellings."""
    UNMATCHED = "unmatched"
    """A file name or an id: matches no entry at all."""
    IRRELEVANT = "irrelevant"
    """Site boilerplate, or the caption of another concept: matches, but says nothing true."""


KIND_SHARES: dict[TextKind, float] = {
    TextKind.CAPTION: 0.60,
    TextKind.UNMATCHED: 0.25,
    TextKind.IRRELEVANT: 0.15,
}
"""Share of each kind of text in the pool."""

BOILERPLATE_SHARE = 0.5
"""Share of boilerplate among irrelevant texts; the others are another concept's caption."""

PLAIN_SHAPES: tuple[str, ...] = (
    "{c}",
    "{c} icon",
    "{c} symbol",
    "{c} clip art",
    "{c} drawing",
    "the {c}",
    "{a} {c}",
    "picture of {a} {c}",
    "a photo of {a} {c}",
    "an image of {a} {c}",
    "Photo of {a} {c}, stock",
    "Image: {c}",
    "{c} vector image",
    "vector {c} clip art - free download",
    "stock illustration of {a} {c}",
    "{c} sticker for sale",
    "{c} , isolated",
    "{c} logo design {n}",
    "The {c}. Simple flat icon",
    "what does the {c} mean?",
    "free {c} graphics; {c} art",
    "{c} print for the home",
    "my favourite {c}!",
    "how to draw {a} {c} - {n} easy steps",
    "sign with {a} {c} at the front",
)
"""Sentence shapes without colours. `{c}` is the name, `{a}` its article, `{n}` a small number."""

COLOUR_SHAPES: tuple[str, ...] = (
    "{ai} {ink} {c} on a {ground} background",
    "{ink} {c} on {ground}",
    "{ink} {c}",
    "{c} in {ink}",
    "{ink} {c} icon, {ground} background",
    "Small {ink} {c} by hand",
    "{c} - {ink} and {ground}",
    "{ai} {ink} {c}",
)
"""Sentence shapes that name the ink's and the ground's colour; `{ai}` is the ink's article."""

COLOUR_SHARE = 0.3
"""Share of captions in one of `COLOUR_SHAPES`."""

BOILERPLATE: tuple[str, ...] = (
    "home page image for sale",
    "click on the image to enlarge",
    "free shipping on all orders",
    "photo by the author",
    "The image may be subject to copyright",
    "add to cart",
    "no image available",
    "Photo {n} of the gallery",
    "page {n} of the catalogue",
    "share this on the web",
    "logo of the site",
    "image {n}",
    "view all photos in this album",
    "Black Friday sale - free gift with each order",
    "sign in to see the price",
    "banner with a link to the home page",
)
"""Texts of a page, not of a picture, commonest first: the r-th is drawn in proportion to 1 / r."""

FILE_SHAPES: tuple[str, ...] = (
    "IMG_{d4}.JPG",
    "DSC{d5}",
    "product-img-{d3}x{d3b}",
    "{hex}",
    "{hex}.jpeg",
    "Screenshot_20{d2}-{d4}",
    "thumb_{d5}_{d3}.png",
    "{word}_{d3}",
    "{word}-{word}-{d3}x{d3b}",
    "SKU{d5}-{d2}",
    "wp-image-{d5}",
    "P10{d5}",
)
"""File names and ids; word boundaries hide whatever words stand in them."""

FILE_WORDS: tuple[str, ...] = ("main", "hero", "slide", "cover", "icon", "image", "star", "red")
"""Words inside file names: entries some of them, but never between word boundaries."""


def caption(name: str, look: Look | None, rng: random.Random) -> str:
    """One caption of the named concept as drawn with the look; without one, no colours."""
    has_colours = look is not None and rng.random() < COLOUR_SHARE
    shapes = COLOUR_SHAPES if has_colours else PLAIN_SHAPES
    ink, ground = (look.ink, look.ground) if look else ("", "")
    text = rng.choice(shapes).format(
        c=name,
        a=article(name),
        ai=article(ink) if ink else "",
        ink=ink,
        ground=ground,
        n=rng.randint(1, 12),
    )
    return _spelled(text, rng)


def boilerplate(rng: random.Random) -> str:
    """One text of a page rather than of a picture."""
    weights = [1.0 / rank for rank in range(1, len(BOILERPLATE) + 1)]
    (shape,) = rng.choices(BOILERPLATE, weights=weights)
    return shape.format(n=rng.randint(1, 12))


def file_name(rng: random.Random) -> str:
    """One text that matches no entry: a file name, an id or a hash."""
    digits = {f"d{width}": f"{rng.randrange(10**width):0{width}d}" for width in (2, 3, 4, 5)}
    return rng.choice(FILE_SHAPES).format(
        **digits,
        d3b=rng.randint(100, 999),
        hex=f"{rng.getrandbits(64):016x}",
        word=rng.choice(FILE_WORDS),
    )


def article(word: str) -> str:
    """The indefinite article of a word."""
    return "an" if word[0] in "aeiou" and not word.startswith(("euro", "one")) else "a"


def _spelled(text: str, rng: random.Random) -> str:
    """The text in one of the web's spellings."""
    (spell,) = rng.choices(list(SPELLINGS), weights=list(SPELLINGS.values()))
    return spell(text)


def _plain(text: str) -> str:
    return text


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _title(text: str) -> str:
    return text.title()


def _slug(text: str) -> str:
    return text.replace(" ", "-")


SPELLINGS: dict[Callable[[str], str], float] = {
    _plain: 0.72,
    _sentence: 0.14,
    _title: 0.11,
    _slug: 0.03,
}
"""How captions are spelled, with shares. Matching is case-sensitive, so the last two hide words."""
