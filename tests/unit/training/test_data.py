import io
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional

from clipcurate.datasets.images import ImageIndex
from clipcurate.errors import InvalidInputError, TrainingError
from clipcurate.training import data
from clipcurate.training.config import TrainConfig
from clipcurate.training.crops import cropped
from clipcurate.training.data import MASK64, MEAN, STD, Batch, TrainingData, normalise
from clipcurate.training.lanes import EqualEpochs, Lanes
from clipcurate.training.model import create_tokenizer
from clipcurate.training.visits import Mix
from tests.image_datasets import write_image_dataset

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


@pytest.fixture
def broken_blocks(tmp_path: Path) -> str:
    """Blocks of one image each; of 6, the image is cut short."""
    lost = {1, 4, 5, 11, 12, 20}
    rows = [(solid(i)[:40] if i in lost else solid(i), [f"text {i}"]) for i in range(24)]
    url = write_dataset(tmp_path / "blocks", rows, block_bytes=1_000)
    assert ImageIndex.open(url).counts.tolist() == [1] * 24
    return url


def test_a_block_that_shows_one_broken_image_gives_its_place_to_the_next_in_the_epoch(
    broken_blocks: str, make_config: Make
) -> None:
    config = make_config(batch_size=24)
    epochs = list(training_data(broken_blocks, config).batches(0, 4))
    whole = set(range(24)) - {1, 4, 5, 11, 12, 20}
    for epoch, batch in enumerate(epochs):
        assert batch.replaced == 6
        order = Lanes(EqualEpochs(np.ones(24, np.int64)), 8, 4, config.seed)
        stream = [0, *order.following(epoch, 0, 99).tolist()] * 2
        stand_ins = [
            next(block for block in stream[stream.index(lost) :] if block in whole)
            for lost in set(range(24)) - whole
        ]
        assert Counter(numbers(batch)) == Counter([*whole, *stand_ins])
    assert len({batch.digest for batch in epochs}) == 4


@pytest.mark.parametrize(("world_size", "threads"), [(1, 1), (2, 3), (4, 1), (8, 2)])
@pytest.mark.parametrize("first", [0, 5])
def test_what_stands_in_depends_on_neither_ranks_nor_threads_nor_cache_nor_resuming(
    broken_blocks: str, make_config: Make, world_size: int, threads: int, first: int
) -> None:
    small = {"lanes": 8, "window_blocks": 2}
    expected = list(training_data(broken_blocks, make_config(**small)).batches(0, 9))[first:]
    tight = 8 // world_size * 2 * ImageIndex.open(broken_blocks).largest_block
    config = make_config(**small, decode_threads=threads, cache_bytes=tight)
    ranks = [training_data(broken_blocks, config, r, world_size) for r in range(world_size)]
    for one, *shares in zip(expected, *(rank.batches(first, 9) for rank in ranks), strict=True):
        assert pairs(*shares) == pairs(one)
        assert sum(share.digest for share in shares) & MASK64 == one.digest
        assert sum(share.replaced for share in shares) == one.replaced


def test_a_block_of_broken_images_is_searched_once_in_an_epoch(
    tmp_path: Path, make_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: Counter[bytes] = Counter()

    def counted(image: bytes, *arguments: Any) -> bool:
        tried[image] += 1
        return cropped(image, *arguments)

    monkeypatch.setattr(data, "cropped", counted)
    parts = [[(b"no image %d" % i, ["lost"]) for i in range(50)], [(solid(7), ["found"])] * 50]
    url = write_image_dataset(str(tmp_path / "d"), parts)
    config = make_config(batch_size=100, lanes=1, decode_threads=1)
    (batch,) = training_data(url, config).batches(0, 1)
    assert (numbers(batch), batch.replaced) == ([7] * 100, 50)
    assert [tried.pop(image) for image, _ in parts[0]] == [1] * 50
    assert tried == {solid(7): 100}


def test_where_no_image_can_be_decoded_the_training_stops(
    tmp_path: Path, make_config: Make
) -> None:
    url = write_dataset(tmp_path / "d", [(b"no image", ["text"])] * 20, block_bytes=1_000)
    with pytest.raises(TrainingError, match=r"this block and of up to 8 after it.*go.*on"):
        list(training_data(url, make_config()).batches(0, 2))
