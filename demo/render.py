"""Draws a concept's glyph as a small picture: colours, size, turn, place and noise vary."""

import functools
import io
import random
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

IMAGE_SIZE = 48
"""Side of the square pictures in pixels."""

MASTER_SIZE = 120
"""Longer side of the ink of a glyph's master drawing, from which all pictures are scaled."""

INKS: dict[str, tuple[int, int, int]] = {
    "black": (20, 20, 20),
    "red": (190, 30, 30),
    "green": (20, 110, 40),
    "blue": (30, 60, 190),
    "purple": (110, 40, 150),
    "brown": (105, 60, 30),
    "navy": (20, 30, 90),
    "gray": (95, 95, 95),
}
"""Named colours of the glyphs, dark; each picture varies them a little."""

GROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (245, 245, 245),
    "yellow": (250, 232, 110),
    "pink": (250, 190, 215),
    "cyan": (170, 230, 240),
    "beige": (238, 222, 190),
    "lime": (190, 235, 140),
}
"""Named colours of the backgrounds, light; each picture varies them a little."""


class Look(NamedTuple):
    """What varies between two pictures of one concept."""

    ink: str
    ground: str
    scale: float
    """Longer side of the ink as a share of the picture's side."""
    degrees: float
    x: float
    """Place within the free room, 0 (left) to 1 (right)."""
    y: float
    noise: float
    """Standard deviation of the pixel noise, of 255."""
    seed: int
    """Seeds the colour jitter and the noise."""


def draw_look(rng: random.Random) -> Look:
    """Draws a look; the same generator state gives the same look."""
    return Look(
        ink=rng.choice(list(INKS)),
        ground=rng.choice(list(GROUNDS)),
        scale=rng.uniform(0.7, 0.95),
        degrees=rng.uniform(-15.0, 15.0),
        x=rng.random(),
        y=rng.random(),
        noise=rng.uniform(0.0, 12.0),
        seed=rng.getrandbits(32),
    )


def font_path() -> Path:
    """The DejaVu Sans that matplotlib ships."""
    import matplotlib as mpl

    return Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@functools.lru_cache(maxsize=512)
def glyph_mask(glyph: str) -> Image.Image:
    """The glyph's ink, cropped to its bounds, as an 8-bit mask `MASTER_SIZE` on its longer side."""
    font = ImageFont.truetype(str(font_path()), 200)
    left, top, right, bottom = (round(edge) for edge in font.getbbox(glyph))
    canvas = Image.new("L", (right - left + 8, bottom - top + 8), 0)
    ImageDraw.Draw(canvas).text((4 - left, 4 - top), glyph, font=font, fill=255)
    ink = canvas.crop(canvas.getbbox())
    factor = MASTER_SIZE / max(ink.size)
    size = (max(1, round(ink.width * factor)), max(1, round(ink.height * factor)))
    return ink.resize(size, Image.Resampling.LANCZOS)


def render(glyph: str, look: Look) -> Image.Image:
    """Draws the glyph with the given look as an `IMAGE_SIZE` RGB picture."""
    values = np.random.default_rng(look.seed)
    ink = _jittered(INKS[look.ink], values)
    ground = _jittered(GROUNDS[look.ground], values)
    alpha = _placed_mask(glyph, look)[:, :, None]
    noise = values.normal(0.0, look.noise, (IMAGE_SIZE, IMAGE_SIZE, 1))
    pixels = ground * (1.0 - alpha) + ink * alpha + noise
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def encode(image: Image.Image) -> bytes:
    """The picture as JPEG bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def _placed_mask(glyph: str, look: Look) -> NDArray[np.float64]:
    """The turned, scaled and placed ink, 0 to 1, shaped (`IMAGE_SIZE`, `IMAGE_SIZE`)."""
    turned = glyph_mask(glyph).rotate(look.degrees, Image.Resampling.BILINEAR, expand=True)
    factor = look.scale * IMAGE_SIZE / max(turned.size)
    width, height = (max(1, round(side * factor)) for side in turned.size)
    small = turned.resize((width, height), Image.Resampling.BILINEAR)
    canvas = Image.new("L", (IMAGE_SIZE, IMAGE_SIZE), 0)
    canvas.paste(
        small, (round(look.x * (IMAGE_SIZE - width)), round(look.y * (IMAGE_SIZE - height)))
    )
    return np.asarray(canvas, dtype=np.float64) / 255.0


def _jittered(colour: tuple[int, int, int], values: np.random.Generator) -> NDArray[np.float64]:
    """The colour, moved a little in each channel."""
    return np.asarray(colour, dtype=np.float64) + values.uniform(-14.0, 14.0, 3)
