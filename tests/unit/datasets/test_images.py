import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from clipcurate.datasets.images import ImageIndex, tar_members
from clipcurate.datasets.manifest import FileRecord, Manifest, publish
from clipcurate.datasets.outcomes import Totals
from clipcurate.errors import DatasetError, InvalidInputError, NotFoundError


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def write_tar(path: Path, samples: list[tuple[str, bytes, list[str]]]) -> FileRecord:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for key, image, texts in samples:
            add(tar, f"{key}.png", image)
            add(tar, f"{key}.txt", texts[0].encode())
            add(tar, f"{key}.json", json.dumps({"texts": [{"text": t} for t in texts]}).encode())
    return record(path.name, len(samples))


def record(name: str, rows: int, role: str = "images") -> FileRecord:
    return FileRecord(name, role, size=0, hash="", rows=rows, part=0)


def write_manifest(folder: Path, *files: FileRecord) -> str:
    manifest = Manifest({}, "e", Totals(), {}, {}, 0.0, 0.0, 0, [], files, {})
    publish(str(folder), manifest)
    return str(folder)


def test_reads_every_sample_across_tars_by_number(tmp_path: Path) -> None:
    long = "k" * 150
    first = [("000", b"a" * 511, ["one"]), ("001", b"b" * 512, ["two", "zwei"])]
    second = [(long, b"c" * 513, ["naïve — 三"]), ("003", b"", ["four"])]
    url = write_manifest(
        tmp_path,
        record("pairs-00000.parquet", 5, "pairs"),
        write_tar(tmp_path / "images-00000.tar", first),
        write_tar(tmp_path / "images-00001.tar", second),
    )
    index = ImageIndex.open(url)
    assert len(index) == 4
    read = [(s.key, s.image, list(s.texts)) for s in map(index.read, range(4))]
    assert read == first + second


def test_text_file_stands_in_for_missing_json(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        add(tar, "7.jpg", b"image")
        add(tar, "7.txt", b"a dog")
    url = write_manifest(tmp_path, record("images.tar", 1))
    assert ImageIndex.open(url).read(0).texts == ("a dog",)


def test_dataset_without_images_says_how_to_get_them(tmp_path: Path) -> None:
    url = write_manifest(tmp_path, record("p.parquet", 1, "pairs"))
    with pytest.raises(InvalidInputError, match="img2dataset"):
        ImageIndex.open(url)


def test_folder_without_manifest_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no dataset here"):
        ImageIndex.open(str(tmp_path))


def test_truncated_tar_is_named(tmp_path: Path) -> None:
    path = tmp_path / "images.tar"
    file = write_tar(path, [("0", b"x" * 5000, ["a"]), ("1", b"y" * 5000, ["b"])])
    url = write_manifest(tmp_path, file)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(DatasetError, match=r"images\.tar"):
        ImageIndex.open(url)


def test_number_of_samples_must_equal_the_manifests(tmp_path: Path) -> None:
    file = write_tar(tmp_path / "images.tar", [("0", b"x", ["a"])])
    url = write_manifest(tmp_path, replace(file, rows=2))
    with pytest.raises(DatasetError, match="holds 1 samples, the manifest says 2"):
        ImageIndex.open(url)


def test_sample_without_texts_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        add(tar, "0.png", b"x")
        add(tar, "0.json", b'{"texts": []}')
    url = write_manifest(tmp_path, record("images.tar", 1))
    with pytest.raises(DatasetError, match="'0' has no texts"):
        ImageIndex.open(url).read(0)


def test_opening_reads_headers_only(tmp_path: Path) -> None:
    path = tmp_path / "images.tar"
    write_tar(path, [("0", b"x" * 10_000_000, ["a"]), ("1", b"y", ["b"])])

    class Counting(io.FileIO):
        total = 0

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(-1 if size is None else size) or b""
            Counting.total += len(data)
            return data

    with Counting(path) as file:
        assert [m.name for m in tar_members(file, "t")] == [  # type: ignore[arg-type]
            "0.png", "0.txt", "0.json", "1.png", "1.txt", "1.json",
        ]  # fmt: skip
    assert Counting.total < 20_000
