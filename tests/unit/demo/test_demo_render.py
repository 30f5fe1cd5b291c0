import io
import random

import numpy as np
from PIL import Image

from demo.concepts import CONCEPTS
from demo.render import GROUNDS, IMAGE_SIZE, INKS, Look, draw_look, encode, render

PLAIN = Look("black", "white", scale=0.9, degrees=0.0, x=0.5, y=0.5, noise=0.0, seed=1)


def test_the_same_look_gives_the_same_bytes() -> None:
    looks = [draw_look(random.Random("a look")) for _ in range(2)]
    first, second = (encode(render("☂", look)) for look in looks)
    assert first == second


def test_a_picture_shows_its_ink_on_its_ground() -> None:
    pixels = np.asarray(render("■", PLAIN)).astype(int)
    assert np.abs(pixels[IMAGE_SIZE // 2, IMAGE_SIZE // 2] - INKS["black"]).max() <= 15
    assert np.abs(pixels[0, 0] - GROUNDS["white"]).max() <= 15


def test_the_whole_glyph_stays_within_the_picture() -> None:
    for corner in (0.0, 1.0):
        look = PLAIN._replace(x=corner, y=corner, degrees=15.0)
        inks = [(np.asarray(render(c.glyph, look).convert("L")) < 128).sum() for c in CONCEPTS]
        centred = PLAIN._replace(degrees=15.0)
        wanted = [(np.asarray(render(c.glyph, centred).convert("L")) < 128).sum() for c in CONCEPTS]
        assert inks == wanted


def test_every_ink_stands_out_from_every_ground() -> None:
    for ink in INKS.values():
        for ground in GROUNDS.values():
            assert np.linalg.norm(np.subtract(ink, ground)) > 100


def test_pictures_are_encoded_as_jpeg() -> None:
    image = Image.open(io.BytesIO(encode(render("♥", PLAIN))))
    assert (image.format, image.size) == ("JPEG", (IMAGE_SIZE, IMAGE_SIZE))
