import io
import logging
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, functional

from clipcurate.datasets.images import ImageIndex
from clipcurate.errors import InvalidInputError, TrainingError
from clipcurate.training import order
from clipcurate.training.config import DataConfig, TrainConfig
from clipcurate.training.data import (
    MEAN,
    STD,
    Batch,
    TrainingData,
    crop_box,
    decode_image,
    normalise,
)
from clipcurate.training.model import create_tokenizer

from .conftest import coloured_samples, render, write_dataset

Make = Callable[..., TrainConfig]


def training_data(
    url: str, config: TrainConfig, rank: int = 0, world_size: int = 1
) -> TrainingData:
    tokenize = create_tokenizer(config.model)
    return TrainingData(ImageIndex.open(url), config, tokenize, rank, world_size)


def pairs(*batches: Batch) -> list[tuple[bytes, list[int]]]:
    """The pairs of a step, in an order of their own; tokens without padding."""
    return sorted(
        (image.numpy().tobytes(), [t for t in tokens.tolist() if t])
        for batch in batches
        for image, tokens in zip(batch.images, batch.tokens, strict=True)
    )


def equal(a: Batch, b: Batch) -> bool:
    return torch.equal(a.images, b.images) and torch.equal(a.tokens, b.tokens)


def test_batches_are_pure_functions_of_their_step(dataset_url: str, make_config: Make) -> None:
    threaded = training_data(dataset_url, make_config(decode_threads=3))
    uncached = training_data(dataset_url, make_config(cache_bytes=0))
    for step, batch in enumerate(threaded.batches(0, 5)):
        assert equal(batch, uncached.batch(step))
    assert equal(uncached.batch(4), next(iter(threaded.batches(4, 5))))


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_a_step_out(dataset_url: str, make_config: Make, world_size: int) -> None:
    config = make_config()
    whole = training_data(dataset_url, config)
    ranks = [training_data(dataset_url, config, rank, world_size) for rank in range(world_size)]
    for step in range(4):
        shares = [rank.batch(step) for rank in ranks]
        assert {len(share.images) for share in shares} == {16 // world_size}
        assert pairs(*shares) == pairs(whole.batch(step))


def test_ranks_that_do_not_divide_the_batch_are_refused(
    dataset_url: str, make_config: Make
) -> None:
    with pytest.raises(InvalidInputError, match="3 ranks cannot share a batch of 16"):
        training_data(dataset_url, make_config(), 0, 3)


def test_every_epoch_shows_each_image_once_with_one_of_its_texts(
    dataset_url: str, make_config: Make
) -> None:
    config = make_config(batch_size=48)
    data, index = training_data(dataset_url, config), ImageIndex.open(dataset_url)
    tokenize = create_tokenizer(config.model)
    samples, _ = order.batch_samples(48, 48, config.seed, 0)
    for number, tokens in zip(samples, data.batch(0).tokens, strict=True):
        allowed = [tokenize([text])[0, : len(tokens)] for text in index.read(int(number)).texts]
        assert any(torch.equal(tokens, row) for row in allowed)


def test_crops_equal_torchvisions(dataset_url: str, make_config: Make) -> None:
    config = make_config()
    data, index = training_data(dataset_url, config), ImageIndex.open(dataset_url)
    samples, epochs = order.batch_samples(48, 16, config.seed, 2)
    for pixels, number, epoch in zip(data.batch(2).images, samples, epochs, strict=True):
        image = Image.open(io.BytesIO(index.read(int(number)).image)).convert("RGB")
        uniforms = order.crop_uniforms(config.seed, int(epoch), int(number), 40).reshape(-1, 4)
        left, top, right, bottom = crop_box(*image.size, config.data, uniforms)
        box = (top, left, bottom - top, right - left)
        cropped = functional.resized_crop(image, *box, [32, 32], InterpolationMode.BICUBIC)
        assert np.array_equal(pixels, np.asarray(cropped))


def test_crop_boxes_follow_the_recipe() -> None:
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


def test_normalise_equals_torchvisions() -> None:
    pixels = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8)
    image = functional.normalize(
        functional.to_tensor(Image.fromarray(pixels[0].numpy())), MEAN, STD
    )
    assert torch.allclose(normalise(pixels)[0], image, atol=1e-6)


def test_broken_image_gives_its_place_to_the_next(
    tmp_path: Path, make_config: Make, caplog: pytest.LogCaptureFixture
) -> None:
    samples = coloured_samples(16)
    truncated = samples[3][0][:60]
    broken = [*samples[:3], (truncated, ["lost"]), (b"", ["lost"]), *samples[5:]]
    config = make_config()
    data = training_data(write_dataset(tmp_path / "broken", broken), config)
    whole = training_data(write_dataset(tmp_path / "whole", samples), config)
    with caplog.at_level(logging.WARNING):
        batch = data.batch(0)
        data.batch(1)
    assert batch.replaced == 2
    assert [record.message.count("00003") for record in caplog.records].count(1) == 1
    places = order.batch_samples(16, 16, config.seed, 0)[0].tolist()
    expected = whole.batch(0)
    stand_in = places.index(5)
    for row, number in enumerate(places):
        source = stand_in if number in (3, 4) else row
        assert torch.equal(batch.images[row], expected.images[source])
        assert torch.equal(batch.tokens[row], expected.tokens[source])


def test_a_dataset_of_broken_images_stops_the_training(tmp_path: Path, make_config: Make) -> None:
    url = write_dataset(tmp_path / "d", [(b"no image", ["text"])] * 3)
    with pytest.raises(TrainingError, match="none of the dataset's images"):
        list(training_data(url, make_config()).batches(0, 2))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_every_mode_decodes_to_rgb(mode: str) -> None:
    buffer = io.BytesIO()
    source = Image.open(io.BytesIO(render("red disc")))
    image = Image.new(mode, (4, 4)) if mode == "I;16" else source.convert(mode)
    transparency = {"transparency": bytes(range(8))} if mode == "P" else {}
    image.save(buffer, "TIFF" if mode in ("CMYK", "I;16") else "PNG", **transparency)
    decoded = decode_image(buffer.getvalue())
    assert decoded is not None
    assert decoded.mode == "RGB"


def test_noise_never_raises() -> None:
    good = render("blue square")
    rng = random.Random(0)
    for _ in range(200):
        data = bytearray(good)
        for _ in range(3):
            data[rng.randrange(len(data))] = rng.randrange(256)
        decode_image(bytes(data[: rng.randrange(len(data))]))
