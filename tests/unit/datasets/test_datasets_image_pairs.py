import io
import itertools
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipcurate.datasets.image_pairs import image_pairs, renumbered
from clipcurate.datasets.images import tar_samples
from clipcurate.datasets.manifest import Manifest, load
from clipcurate.datasets.request import EmissionRequest
from clipcurate.datasets.rethreshold import rethreshold
from clipcurate.datasets.verify import verify_dataset
from clipcurate.errors import DatasetError
from clipcurate.hashing import hash_file
from clipcurate.pools import Columns
from tests.frozen_runs import Run

MakeRun = Callable[..., Run]
RAW, MATCHED = EmissionRequest("raw", seed=7), EmissionRequest("matched", seed=7)
COLUMNS = ["uid", "text", "entry_ids", "critical_t"]
TEXTS = ["a dog", "a red dog, a cat", "nothing", "in new york", "a"]


@pytest.fixture
def mixed_pool(tmp_path: Path) -> Path:
    """Two tars of images with 0 to 3 texts each, and a parquet shard without images between."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name in ("a.tar", "c.tar"):
        with tarfile.open(folder / name, "w") as tar:
            for number in range(30):
                texts = [TEXTS[(number + j) % 5] for j in range(number % 4)]
                content = {"jpg": b"image", "json": json.dumps({"texts": texts}).encode()}
                for extension, value in content.items():
                    member = tarfile.TarInfo(f"{number:03d}.{extension}")
                    member.size = len(value)
                    tar.addfile(member, io.BytesIO(value))
    pq.write_table(pa.table({"url": ["u"], "texts": [["a dog", "a cat"]]}), folder / "b.parquet")
    return folder


def by_image(url: str) -> list[list[str]]:
    """The texts of each image, as `image_pairs` has them."""
    found = [
        (int(image), text)
        for pairs in image_pairs(url, load(url), COLUMNS)
        for image, text in zip(pairs.image, pairs.table["text"].to_pylist(), strict=True)
    ]
    return [[t for _, t in group] for _, group in itertools.groupby(found, lambda one: one[0])]


def by_tar(url: str) -> list[list[str]]:
    found = []
    for file in load(url).of_role("images"):
        with (Path(url) / file.name).open("rb") as tar:
            for _, members in tar_samples(tar, file.name):
                found.append([text["text"] for text in json.loads(members["json"])["texts"]])
    return found


@pytest.mark.parametrize("request_", [RAW, MATCHED], ids=lambda r: r.kind)
@pytest.mark.parametrize("part_bytes", [400, 1 << 20])
def test_pairs_stand_with_the_images_of_the_tars(
    make_run: MakeRun, mixed_pool: Path, request_: EmissionRequest, part_bytes: int
) -> None:
    run = make_run(mixed_pool, task_rows=20, columns=Columns(text="texts"))
    url = run.emit(replace(request_, part_bytes=part_bytes))
    assert (len(load(url).of_role("images")) > 2) == (part_bytes == 400)
    assert by_image(url) == by_tar(url)
    assert max(map(len, by_tar(url))) == 3
    subset = rethreshold(url, 6.0) if request_.kind == "matched" else url
    assert by_image(subset) == by_tar(subset)
    verify_dataset(subset, run.folder)


def test_pools_without_images_have_no_such_column(make_run: MakeRun, parquet_pool: Path) -> None:
    url = make_run(parquet_pool).emit(MATCHED)
    assert "sample" not in pq.read_schema(next(Path(url).glob("pairs-*"))).names
    assert list(image_pairs(url, load(url), COLUMNS)) == []


def test_some_pairs_are_numbered_anew() -> None:
    pairs = pa.table({"text": list("abcdef"), "sample": [0, 0, 2, None, 3, 7]})
    assert renumbered(pairs)["sample"].to_pylist() == [0, 0, 1, None, 2, 3]
    assert renumbered(pairs.slice(2, 0))["sample"].to_pylist() == []


Rewrite = Callable[[str, Callable[[Manifest], Manifest]], None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop_columns(["sample"]), "an earlier version wrote it"),
        (lambda table: table.slice(0, 1), "has pairs of 1 images, its tar"),
        (lambda table: table.take([1, 0]), "not numbered in order"),
    ],
)
def test_parts_that_do_not_fit_their_tars_are_refused(
    make_run: MakeRun,
    image_pool: Path,
    rewrite: Rewrite,
    change: Callable[[pa.Table], pa.Table],
    message: str,
) -> None:
    url = make_run(image_pool).emit(MATCHED)
    (path,) = Path(url).glob("pairs-*")
    pq.write_table(change(pq.read_table(path)), path)

    def hashed(manifest: Manifest) -> Manifest:
        files = [
            replace(file, hash=hash_file(path)) if file.role == "pairs" else file
            for file in manifest.files
        ]
        return replace(manifest, files=tuple(files))

    rewrite(url, hashed)
    with pytest.raises(DatasetError, match=message):
        list(image_pairs(url, load(url), COLUMNS))


def test_coin_keys_and_hits_are_those_of_the_match_index(
    make_run: MakeRun, image_pool: Path
) -> None:
    run = make_run(image_pool)
    (pairs,) = image_pairs(url := run.emit(RAW), load(url), COLUMNS)
    (index,) = run.indexes
    present = index.status != 0
    assert np.array_equal(pairs.coin_keys, index.coin_keys[present])
    assert np.array_equal(pairs.matches.entry_ids, index.matches.entry_ids)
    assert np.array_equal(pairs.critical, run.scored(RAW)[0].critical[present])
