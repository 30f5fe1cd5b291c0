import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcurate.datasets import blocks
from clipcurate.datasets.images import ImageIndex, tar_members
from clipcurate.datasets.manifest import FileRecord, Manifest, load, publish
from clipcurate.datasets.outcomes import Totals
from clipcurate.errors import DatasetError, InvalidInputError, NotFoundError, StorageError
from tests.image_datasets import write_image_dataset

PARTS = [
    [(b"a" * 511, ["one"]), (b"b" * 512, ["two", "zwei"]), (b"", ["no"])],
    [(b"c" * 513, ["naïve — 三"])],
    [(bytes([i]) * 3000, [str(i)]) for i in range(20)],
]


def write_manifest(folder: Path, *files: FileRecord) -> str:
    publish(str(folder), Manifest({}, "e", Totals(), {}, {}, 0.0, 0.0, 0, [], files, {}))
    return str(folder)


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize("block_bytes", [1, 12_000, blocks.BLOCK_BYTES])
def test_reads_every_sample_whatever_the_blocks(tmp_path: Path, block_bytes: int) -> None:
    index = ImageIndex.open(write_image_dataset(str(tmp_path), PARTS, block_bytes=block_bytes))
    everything = [sample for part in PARTS for sample in part]
    assert len(index) == index.counts.sum() == len(everything)
    read = [(s.image, list(s.texts)) for s in index.samples(np.arange(len(index)))]
    assert read == everything
    some = [(s.image, list(s.texts)) for s in index.samples(np.array([1, 3, 4, 23]))]
    assert some == [everything[i] for i in (1, 3, 4, 23)]
    assert len(index.counts) == {1: 24, 12_000: 1 + 1 + 9}.get(block_bytes, 3)


@given(
    sizes=st.lists(st.integers(1, 100).map(lambda n: n * 512), min_size=1, max_size=50),
    block_bytes=st.integers(1, 20_000),
)
def test_blocks_are_consecutive_and_of_about_equal_size(sizes: list[int], block_bytes: int) -> None:
    ends = np.cumsum(sizes).tolist()
    cut = blocks.cut(ends, block_bytes)
    assert [start for start, _, _ in cut] == [0, *[stop for _, stop, _ in cut[:-1]]]
    assert cut[-1][1] == ends[-1]
    first, ideal = 0, ends[-1] / max(1, round(ends[-1] / block_bytes))
    for start, stop, samples in cut:
        assert sum(sizes[first : first + samples]) == stop - start
        assert abs(stop - start - ideal) <= max(sizes)
        first += samples
    assert first == len(sizes)


def test_blocks_of_a_large_tar_have_8_to_16_mib() -> None:
    sizes = np.full(15_000, 20 * 1024)
    lengths = [stop - start for start, stop, _ in blocks.cut(np.cumsum(sizes).tolist())]
    assert 8 << 20 < min(lengths) <= max(lengths) < 16 << 20


def test_the_table_is_part_of_a_dataset(tmp_path: Path) -> None:
    url = write_image_dataset(str(tmp_path), PARTS)
    (file,) = load(url).of_role("image_blocks")
    assert np.load(tmp_path / file.name)["samples"].tolist() == [3, 1, 20]


def test_dataset_without_images_says_how_to_get_them(tmp_path: Path) -> None:
    url = write_manifest(tmp_path, FileRecord("p.parquet", "pairs", 0, "", 1, 0))
    with pytest.raises(InvalidInputError, match="img2dataset"):
        ImageIndex.open(url)


def test_dataset_without_a_table_of_blocks_is_of_an_earlier_version(tmp_path: Path) -> None:
    url = write_manifest(tmp_path, FileRecord("images.tar", "images", 0, "", 1, 0))
    with pytest.raises(DatasetError, match="earlier version"):
        ImageIndex.open(url)


def test_folder_without_manifest_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no dataset here"):
        ImageIndex.open(str(tmp_path))


def test_a_table_that_contradicts_the_manifest_is_refused(tmp_path: Path) -> None:
    manifest = load(write_image_dataset(str(tmp_path / "d"), PARTS))
    files = [replace(f, rows=99) if f.part == 1 else f for f in manifest.files]
    with pytest.raises(DatasetError, match="does not fit the tars"):
        blocks.load(str(tmp_path / "d"), replace(manifest, files=tuple(files)))


def test_a_changed_table_is_refused(tmp_path: Path) -> None:
    url = write_image_dataset(str(tmp_path), PARTS)
    path = tmp_path / blocks.NAME
    path.write_bytes(path.read_bytes()[:-8] + bytes(8))
    with pytest.raises(StorageError, match="recorded hash"):
        ImageIndex.open(url)


@pytest.mark.parametrize("keep", [100, 4_000, 60_000])
def test_a_tar_that_is_cut_short_is_named(tmp_path: Path, keep: int) -> None:
    index = ImageIndex.open(write_image_dataset(str(tmp_path), PARTS))
    (path,) = tmp_path.glob("images-00002*")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DatasetError, match=r"images-00002.*restore the file"):
        index.fetch(2)


def test_a_tar_of_another_kind_is_named(tmp_path: Path) -> None:
    index = ImageIndex.open(write_image_dataset(str(tmp_path), PARTS))
    (path,) = tmp_path.glob("images-00002*")
    path.write_bytes(b"\x80" * path.stat().st_size)
    with pytest.raises(DatasetError, match="no member of a tar"):
        index.fetch(2)


def test_sample_without_texts_is_refused(tmp_path: Path) -> None:
    url = write_image_dataset(str(tmp_path), [[(b"x", ["a"])]])
    (path,) = tmp_path.glob("images-*")
    good = json.dumps({"texts": [{"text": "a"}]}).encode()
    path.write_bytes(path.read_bytes().replace(good, b'{"texts": []}'.ljust(len(good))))
    with pytest.raises(DatasetError, match="has no texts"):
        list(ImageIndex.open(url).samples(np.array([0])))


def test_listing_a_tar_reads_headers_only(tmp_path: Path) -> None:
    path = tmp_path / "images.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in (("0.png", b"x" * 10_000_000), ("0.txt", b"a"), ("1.png", b"y")):
            add(tar, name, content)

    class Counting(io.FileIO):
        total = 0

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(-1 if size is None else size) or b""
            Counting.total += len(data)
            return data

    with Counting(path) as file:
        names = [m.name for m in tar_members(file, "t")]  # type: ignore[arg-type]
    assert names == ["0.png", "0.txt", "1.png"]
    assert Counting.total < 20_000
