import io
import random
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import InterpolationMode, functional

from clipcurate.training.config import DataConfig
from clipcurate.training.crops import CROP_ATTEMPTS, U8, crop_box, cropped, decode_image

from .conftest import render

PHOTO = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def ours(data: bytes, uniforms: np.ndarray, size: int) -> U8:
    out = np.zeros((size, size, 3), np.uint8)
    assert cropped(data, DataConfig(), uniforms, out)
    return out


def torchvisions(data: bytes, uniforms: np.ndarray, size: int) -> U8:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    left, top, right, bottom = crop_box(*image.size, DataConfig(), uniforms)
    box = (top, left, bottom - top, right - left)
    crop = functional.resized_crop(
        image, *box, [size, size], InterpolationMode.BICUBIC, antialias=True
    )
    return np.asarray(crop)


def photo(scale: float) -> bytes:
    image = Image.open(PHOTO)
    size = (round(image.width * scale), round(image.height * scale))
    return encoded(image.resize(size, Image.Resampling.BICUBIC), quality=92)


@pytest.mark.parametrize("scale", [0.1, 0.45, 0.5, 0.7, 1, 1.7, 3, 5])
def test_crops_of_photos_are_torchvisions_within_2_of_255(scale: float) -> None:
    data, rng = photo(scale), np.random.default_rng(int(scale * 10))
    for _ in range(3):
        uniforms = rng.random((CROP_ATTEMPTS, 4))
        a, b = ours(data, uniforms, 224), torchvisions(data, uniforms, 224)
        assert np.abs(a.astype(int) - b.astype(int)).mean() < (2 if scale > 1 else 0.5)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_crops_of_every_format_are_torchvisions(mode: str, kind: str) -> None:
    data = encoded(Image.open(PHOTO).resize((320, 240)).convert(mode), kind)
    uniforms = np.random.default_rng(1).random((CROP_ATTEMPTS, 4))
    difference = ours(data, uniforms, 64).astype(int) - torchvisions(data, uniforms, 64)
    assert np.abs(difference).mean() < 1


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (7, 3)])
def test_tiny_images_are_torchvisions(size: tuple[int, int]) -> None:
    data = encoded(Image.open(PHOTO).resize(size), "PNG")
    uniforms = np.random.default_rng(1).random((CROP_ATTEMPTS, 4))
    difference = ours(data, uniforms, 32).astype(int) - torchvisions(data, uniforms, 32)
    assert np.abs(difference).max() <= 1


def test_boxes_follow_the_recipe() -> None:
    rng = np.random.default_rng(0)
    boxes = np.array([crop_box(640, 480, DataConfig(), rng.random((10, 4))) for _ in range(2000)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert (boxes >= 0).all()
    assert (boxes[:, 2] <= 640).all()
    assert (boxes[:, 3] <= 480).all()
    area, ratio = width * height / (640 * 480), width / height
    assert area.min() > 0.895
    assert ratio.min() > 0.74
    assert ratio.max() < 1.34
    assert 0.94 < area.mean() < 0.96


def test_a_panorama_falls_back_to_its_centre() -> None:
    assert crop_box(900, 90, DataConfig(), np.full((10, 4), 0.5)) == (390, 0, 510, 90)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_every_mode_decodes_to_rgb(mode: str) -> None:
    source = Image.open(io.BytesIO(render("red disc")))
    image = Image.new(mode, (4, 4)) if mode == "I;16" else source.convert(mode)
    transparency = {"transparency": bytes(range(8))} if mode == "P" else {}
    data = encoded(image, "TIFF" if mode in ("CMYK", "I;16") else "PNG", **transparency)
    decoded = decode_image(data)
    assert decoded is not None
    assert decoded.mode == "RGB"
    assert ours(data, np.full((10, 4), 0.5), 8).shape == (8, 8, 3)


def test_cmyk_jpegs_are_pillows() -> None:
    data = encoded(Image.open(PHOTO).resize((64, 64)).convert("CMYK"))
    uniforms = np.full((10, 4), 0.5)
    assert (
        np.abs(ours(data, uniforms, 32) - torchvisions(data, uniforms, 32).astype(int)).max() <= 1
    )


def test_a_truncated_jpeg_is_broken() -> None:
    data = encoded(Image.open(PHOTO).resize((64, 64)))
    out = np.zeros((8, 8, 3), np.uint8)
    assert not cropped(data[: len(data) // 2], DataConfig(), np.full((10, 4), 0.5), out)
    assert not out.any()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_noise_never_raises(kind: str) -> None:
    good = encoded(Image.open(PHOTO).resize((48, 48)), kind)
    rng, out = random.Random(0), np.zeros((8, 8, 3), np.uint8)
    for _ in range(200):
        data = bytearray(good)
        for _ in range(3):
            data[rng.randrange(len(data))] = rng.randrange(256)
        cropped(bytes(data[: rng.randrange(len(data))]), DataConfig(), np.full((10, 4), 0.5), out)
