import io
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms import functional

from clipcurate.datasets.images import ImageIndex
from clipcurate.errors import InvalidInputError, TrainingError
from clipcurate.training.config import TrainConfig
from clipcurate.training.data import MASK64, MEAN, STD, Batch, TrainingData, normalise
from clipcurate.training.model import create_tokenizer
from clipcurate.training.visits import Mix

from .conftest import coloured_samples, write_dataset

Make = Callable[..., TrainConfig]


def training_data(
    source: str | Mix, config: TrainConfig, rank: int = 0, world_size: int = 1
) -> TrainingData:
    index = ImageIndex.open(source) if isinstance(source, str) else source
    return TrainingData(index, config, create_tokenizer(config.model), rank, world_size)


def pairs(*batches: Batch) -> Counter[tuple[bytes, tuple[int, ...]]]:
    """The pairs of a step, whatever their order; tokens without padding."""
    return Counter(
        (image.numpy().tobytes(), tuple(t for t in tokens.tolist() if t))
        for batch in batches
        for image, tokens in zip(batch.images, batch.tokens, strict=True)
    )


def equal(a: Batch, b: Batch) -> bool:
    same = torch.equal(a.images, b.images) and torch.equal(a.tokens, b.tokens)
    return same and a.digest == b.digest


def solid(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9), (number % 250, number // 250, 7)).save(buffer, "PNG")
    return buffer.getvalue()


def numbers(batch: Batch) -> list[int]:
    """Which images of `solid` are in a batch."""
    return [int(image[0, 0, 0]) + 250 * int(image[0, 0, 1]) for image in batch.images]


def test_batches_are_pure_functions_of_their_step(dataset_url: str, make_config: Make) -> None:
    threaded = training_data(dataset_url, make_config(decode_threads=3, prefetch_batches=3))
    single = training_data(dataset_url, make_config(decode_threads=1, fetch_threads=1))
    whole = list(threaded.batches(0, 6))
    for first in (0, 1, 4, 5):
        resumed = list(single.batches(first, 6))
        assert all(map(equal, resumed, whole[first:]))


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("threads", [1, 3])
def test_any_number_of_ranks_and_threads_shows_the_same_pairs_in_every_step(
    dataset_url: str, make_config: Make, world_size: int, threads: int
) -> None:
    config = make_config(decode_threads=threads)
    whole = training_data(dataset_url, make_config()).batches(2, 7)
    ranks = [training_data(dataset_url, config, r, world_size) for r in range(world_size)]
    for one, *shares in zip(whole, *(rank.batches(2, 7) for rank in ranks), strict=True):
        assert {len(share.images) for share in shares} == {16 // world_size}
        assert pairs(*shares) == pairs(one)
        assert sum(share.digest for share in shares) & MASK64 == one.digest


def test_every_epoch_shows_each_image_once_and_the_remainder_carries_over(
    tmp_path: Path, make_config: Make
) -> None:
    rows = [(solid(i), [str(i)]) for i in range(100)]
    url = write_dataset(tmp_path / "d", rows, block_bytes=20_000)
    config = make_config(batch_size=40, lanes=4, window_blocks=2)
    seen = [n for batch in training_data(url, config).batches(0, 5) for n in numbers(batch)]
    assert sorted(seen[:80]) == sorted(set(seen[:80]))
    assert Counter(seen) == Counter(dict.fromkeys(range(100), 2))
    assert set(range(100)) - set(seen[:80]) <= set(seen[80:120])


def test_texts_and_crops_differ_by_epoch(tmp_path: Path, make_config: Make) -> None:
    url = write_dataset(tmp_path / "d", [(coloured_samples(1)[0][0], list("abcdefgh"))] * 64)
    epochs = [pairs(b) for b in training_data(url, make_config(batch_size=64)).batches(0, 2)]
    assert len({tokens for _, tokens in epochs[0]}) == 8
    assert len({image for image, _ in epochs[0]}) > 40
    assert len(epochs[0] & epochs[1]) < 20


def test_a_small_cache_changes_nothing(tmp_path: Path, make_config: Make) -> None:
    rows = [(solid(i), [str(i)]) for i in range(120)]
    url = write_dataset(tmp_path / "d", rows, block_bytes=4_000)
    small = {"lanes": 4, "window_blocks": 2, "batch_size": 12}
    least = 8 * ImageIndex.open(url).largest_block
    tight = training_data(url, make_config(**small, cache_bytes=least))
    roomy = training_data(url, make_config(**small))
    assert all(map(equal, tight.batches(0, 25), roomy.batches(0, 25)))
    with pytest.raises(InvalidInputError, match=f"give it {least:,} or more"):
        next(training_data(url, make_config(**small, cache_bytes=least - 1)).batches(0, 1))


def test_ranks_that_do_not_divide_the_lanes_are_refused(
    dataset_url: str, make_config: Make
) -> None:
    with pytest.raises(InvalidInputError, match="3 ranks cannot share 8 lanes"):
        next(training_data(dataset_url, make_config(), 0, 3).batches(0, 1))


def test_datasets_are_mixed_in_exact_proportion(tmp_path: Path, make_config: Make) -> None:
    urls = [
        write_dataset(tmp_path / str(n), [(solid(250 * n + i), ["t"]) for i in range(size)])
        for n, size in enumerate((30, 10))
    ]
    mix = Mix(tuple(map(ImageIndex.open, urls)), (3, 1))
    whole = list(training_data(mix, make_config(batch_size=32)).batches(0, 5))
    for batch in whole:
        assert Counter(n // 250 for n in numbers(batch)) == {0: 24, 1: 8}
    assert Counter(n for batch in whole for n in numbers(batch)) == Counter(
        {**dict.fromkeys(range(30), 4), **{250 + n: 4 for n in range(10)}}
    )
    shares = [training_data(mix, make_config(batch_size=32), r, 2).batches(3, 5) for r in (0, 1)]
    for one, *parts in zip(whole[3:], *shares, strict=True):
        assert pairs(*parts) == pairs(one)


def test_normalise_equals_torchvisions() -> None:
    pixels = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8)
    image = functional.normalize(
        functional.to_tensor(Image.fromarray(pixels[0].numpy())), MEAN, STD
    )
    assert torch.allclose(normalise(pixels)[0], image, atol=1e-6)


def test_broken_image_gives_its_place_to_the_next_of_its_block(
    tmp_path: Path, make_config: Make, caplog: pytest.LogCaptureFixture
) -> None:
    samples = [(solid(i), [str(i)]) for i in range(16)]
    broken = [*samples[:3], (samples[3][0][:40], ["lost"]), (b"", ["lost"]), *samples[5:15]]
    url = write_dataset(tmp_path / "d", [*broken, (b"", ["lost"])], block_bytes=1 << 20)
    with caplog.at_level(logging.WARNING):
        batches = list(training_data(url, make_config(decode_threads=2)).batches(0, 3))
    expected = Counter([0, 0, 1, 2, 5, 5, 5, *range(6, 15)])
    assert [Counter(numbers(batch)) for batch in batches] == [expected] * 3
    assert [batch.replaced for batch in batches] == [3] * 3
    assert [record.message.count("000000000003 is broken") for record in caplog.records].count(
        1
    ) == 1


def test_a_block_of_broken_images_stops_the_training(tmp_path: Path, make_config: Make) -> None:
    url = write_dataset(tmp_path / "d", [(b"no image", ["text"])] * 3)
    with pytest.raises(TrainingError, match="none of the block's 3 images"):
        list(training_data(url, make_config()).batches(0, 2))
