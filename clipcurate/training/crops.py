"""From the bytes of an image to the pixels of a random crop: RandomResizedCrop, antialiased.

JPEGs are decoded by libjpeg-turbo, at a fraction of their size where the crop is to be far smaller;
the rest by Pillow. Resampling is Pillow's (and so torchvision's) antialiased bicubic.
"""

import io
import math

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from clipcurate.training.config import DataConfig
from clipcurate.training.kernels import resample_rows

U8 = npt.NDArray[np.uint8]
Box = tuple[int, int, int, int]
"""left, top, right, bottom in pixels"""

# torchvision's RandomResizedCrop gives up after ten boxes that do not fit, and takes the centre.
CROP_ATTEMPTS = 10

# A JPEG is decoded at a fraction of its size that leaves the crop at least this many times as large
# as it will be: then the mean difference to the full decode stays near 1/255 on photos.
MARGIN = 2.0

cv2.setNumThreads(1)  # the loader has threads of its own


def decode_image(data: bytes) -> Image.Image | None:
    """Return the image as RGB, or None if it cannot be decoded."""
    try:
        image: Image.Image = Image.open(io.BytesIO(data))
        if image.mode == "P":  # Pillow warns about palettes with transparency, but drops it too
            image = image.convert("RGBA")
        return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def cropped(data: bytes, config: DataConfig, uniforms: npt.NDArray[np.float64], out: U8) -> bool:
    """Decode an image and resample a random box of it to all of `out`.

    Args:
        data: of the image file.
        config: bounds of the box.
        uniforms: numbers in [0, 1), shape (CROP_ATTEMPTS, 4).
        out: where the pixels go, RGB of shape (size, size, 3).

    Returns:
        False if the image is broken; `out` is then as it was.
    """
    if data[:2] == b"\xff\xd8":
        try:
            width, height, space = _jpeg_header(data)
            if space in ("Gray", "RGB", "YCbCr"):
                box = crop_box(width, height, config, uniforms)
                pixels = _decoded_jpeg(data, (width, height), box, len(out))
                _resample(pixels, width, height, box, out)
                return True
        except ValueError:
            pass  # Pillow has the last word on what is broken
    image = decode_image(data)
    if image is None:
        return False
    box = crop_box(*image.size, config, uniforms)
    _resample(np.asarray(image), *image.size, box, out)
    return True


def _jpeg_header(data: bytes) -> tuple[int, int, str]:
    height, width, space, _ = simplejpeg.decode_jpeg_header(data)
    return width, height, space


def _decoded_jpeg(data: bytes, size: tuple[int, int], box: Box, out: int) -> U8:
    """Return the whole image, at a fraction of its size if the box is large."""
    width, height = size
    left, top, right, bottom = box
    pixels: U8 = simplejpeg.decode_jpeg(
        data,
        min_width=math.ceil(width * min(1.0, MARGIN * out / (right - left))),
        min_height=math.ceil(height * min(1.0, MARGIN * out / (bottom - top))),
        min_factor=1,
    )
    return pixels


def _resample(pixels: U8, width: int, height: int, box: Box, out: U8) -> None:
    """Resample the box, given in pixels of the full size, first along x, as Pillow does."""
    left, top, right, bottom = box
    scale_y, scale_x = pixels.shape[0] / height, pixels.shape[1] / width
    upper, lower = math.floor(top * scale_y), math.ceil(bottom * scale_y)
    columns = _transposed(pixels[upper:lower])
    size = len(out)
    narrow = np.empty((size, columns.shape[1], 3), np.uint8)
    resample_rows(_flat(columns), left * scale_x, right * scale_x, _flat(narrow))
    rows = _flat(_transposed(narrow))
    resample_rows(rows, top * scale_y - upper, bottom * scale_y - upper, _flat(out))


def _transposed(pixels: U8) -> U8:
    """Swap x and y; numpy takes ten times as long."""
    return np.asarray(cv2.transpose(pixels), np.uint8)


def _flat(pixels: U8) -> U8:
    return pixels.reshape(len(pixels), -1)


def crop_box(width: int, height: int, config: DataConfig, uniforms: npt.NDArray[np.float64]) -> Box:
    """Return RandomResizedCrop's box (left, top, right, bottom).

    Args:
        width: of the image, in pixels.
        height: of the image, in pixels.
        config: bounds of area and aspect ratio.
        uniforms: numbers in [0, 1), shape (CROP_ATTEMPTS, 4).
    """
    log_ratio = math.log(config.crop_ratio_max)
    for area, ratio, x, y in uniforms.tolist():
        target = width * height * (config.crop_scale_min + (1 - config.crop_scale_min) * area)
        aspect = math.exp(log_ratio * (2 * ratio - 1))
        w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(x * (width - w + 1)), int(y * (height - h + 1))
            return left, top, left + w, top + h
    return _central_box(width, height, config.crop_ratio_max)


def _central_box(width: int, height: int, ratio_max: float) -> Box:
    w, h = width, height
    if width / height > ratio_max:
        w = round(height * ratio_max)
    elif height / width > ratio_max:
        h = round(width * ratio_max)
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h
