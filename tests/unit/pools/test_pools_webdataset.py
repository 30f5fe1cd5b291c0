import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipcurate.errors import PoolError, UnreadableInputError
from clipcurate.pools import Columns, extra_columns, webdataset

Members = list[tuple[str, bytes]]
PAIR: Members = [("0.jpg", b"JPEG"), ("0.txt", b"a")]


def tar(members: Members, form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as file:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def samples(count: int) -> Members:
    parts = [("jpg", b"J" * 700), ("json", b'{"url": "u"}'), ("txt", b"text")]
    return [(f"{i:04}.{ext}", content) for i in range(count) for ext, content in parts]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.tar"


def test_a_sample_is_a_pair_with_its_image(path: Path, read: Any) -> None:
    content = b'{"url": "u", "uid": "' + b"A" * 32 + b'", "language": "en", "caption": "c"}'
    path.write_bytes(tar([("d/0.JPG", b"JPEG"), ("d/0.json", content), ("d/0.txt", b"a")]))
    table = read(path, images=True)
    assert extra_columns(table) == ["json", "webdataset_key", "image", "image_ext"]
    assert table.to_pylist() == [
        {"row": 0, "text_index": 0, "uid": "a" * 32, "key": "A" * 32, "url": "u", "text": "a"}
        | {"lang": "en", "reject": None, "row_bytes": 1 + 1 + len(content) + 3 + 4}
        | {"json": content.decode(), "webdataset_key": "d/0", "image": b"JPEG", "image_ext": "jpg"}
    ]


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tgz", "tar.zst"])
def test_without_images_only_the_images_are_missing(tmp_path: Path, read: Any, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    content = tar(samples(20))
    if suffix != "tar":
        content = zstandard.compress(content) if suffix == "tar.zst" else gzip.compress(content)
    path.write_bytes(content)
    lean, full = read(path), read(path, images=True)
    assert extra_columns(lean) == ["json", "webdataset_key"]
    assert full.drop_columns(["image", "image_ext"]).equals(lean)
    assert full["image"].to_pylist() == [b"J" * 700] * 20
    assert read(path, images=True, batch_rows=3).equals(full)


def test_the_key_is_the_sample_key_where_json_has_none(path: Path, read: Any) -> None:
    path.write_bytes(tar([*PAIR, ("1.png", b"x"), ("1.json", b'{"key": 5, "text": "b"}')]))
    table = read(path)
    assert table["key"].to_pylist() == ["0", "5"]
    assert table["text"].to_pylist() == ["a", "b"]


@pytest.mark.parametrize(
    ("columns", "texts"),
    [(Columns(), ["a"]), (Columns(text="alt"), ["b", "c"]), (Columns(text="nope"), ["a"])],
)
def test_a_requested_field_wins_over_the_text_member(
    path: Path, read: Any, columns: Columns, texts: list[str]
) -> None:
    path.write_bytes(tar([*PAIR, ("0.json", b'{"alt": ["b", "c"], "caption": "d"}')]))
    assert read(path, columns)["text"].to_pylist() == texts


def test_texts_that_a_dataset_of_ours_keeps_of_an_image(path: Path, read: Any) -> None:
    texts = b'{"texts": [{"text": "a", "lang": "en"}, {"text": "b", "lang": "de"}]}'
    path.write_bytes(tar([*PAIR, ("0.json", texts)]))
    table = read(path, Columns(text="texts"))
    assert table["text"].to_pylist() == ["a", "b"]
    assert table["lang"].to_pylist() == ["en", "de"]
    assert read(path)["text"].to_pylist() == ["a"]


@pytest.mark.parametrize(
    ("members", "reject"),
    [
        ([("1.txt", b"a")], "no_image"),
        ([("1.jpg", b""), ("1.txt", b"a")], "no_image"),
        ([("1.jpg", b"J")], "no_text"),
        ([("1.jpg", b"J"), ("1.json", b'{"caption": null}')], "no_text"),
        ([("1.jpg", b"J"), ("1.txt", b"\xff")], "invalid_utf8"),
        ([("1.jpg", b"J"), ("1.txt", b"a"), ("1.json", b"{")], "malformed_record"),
        ([("1.jpg", b"J"), ("1.txt", b"a"), ("1.json", b"[]")], "malformed_record"),
        ([("1.jpg", b"J"), ("1.txt", b"a"), ("1.json", b"\xff")], "invalid_utf8"),
        ([("1.jpg", b"J"), ("1.json", b'{"caption": "\\ud800"}')], "invalid_utf8"),
    ],
)
@pytest.mark.parametrize("images", [True, False])
def test_a_bad_sample_is_one_rejected_pair(
    path: Path, read: Any, members: Members, reject: str, images: bool
) -> None:
    path.write_bytes(tar([*PAIR, *members, ("2.jpg", b"J"), ("2.txt", b"b")]))
    table = read(path, images=images)
    table.validate(full=True)
    assert table["reject"].to_pylist() == [None, reject, None]
    assert table["webdataset_key"].to_pylist() == ["0", "1", "2"]


def test_members_that_are_no_part_of_a_sample_are_passed_over(path: Path, read: Any) -> None:
    others = [("README", b"x"), (".hidden", b"x"), ("0.seg.png", b"x"), ("0.cls", b"1")]
    path.write_bytes(tar([*others[:2], ("0.jpg", b"J"), *others[2:], ("0.txt", b"a")]))
    table = read(path, images=True)
    assert table["image"].to_pylist() == [b"J"]


def test_a_repeated_member_begins_a_new_sample(path: Path, read: Any) -> None:
    path.write_bytes(tar([*PAIR, *PAIR]))
    assert read(path)["row"].to_pylist() == [0, 1]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_odd_names(path: Path, read: Any, form: int) -> None:
    key = "é" * 90 + "/" + "k" * 150
    path.write_bytes(tar([(f"{key}.jpg", b"J"), (f"{key}.txt", b"a")], form))
    assert read(path)["webdataset_key"].to_pylist() == [key]


def test_a_name_that_is_not_utf8_is_escaped(path: Path, read: Any) -> None:
    raw = io.BytesIO()
    with tarfile.open(
        fileobj=raw, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape"
    ) as file:
        for name in ("\udcff.jpg", "\udcff.txt"):
            info = tarfile.TarInfo(name)
            info.size = 1
            file.addfile(info, io.BytesIO(b"x"))
    path.write_bytes(raw.getvalue())
    assert read(path)["webdataset_key"].to_pylist() == ["\\xff"]


def test_a_member_too_large_to_hold_is_rejected(
    path: Path, read: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webdataset, "MAX_RECORD", 10)
    path.write_bytes(tar([("0.jpg", b"J"), ("0.txt", b"a" * 11), ("1.jpg", b"J"), ("1.txt", b"b")]))
    assert read(path)["reject"].to_pylist() == ["malformed_record", None]


def test_an_empty_tar_has_no_pairs(tmp_path: Path, read: Any) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar([]))
    with pytest.raises(ValueError, match="at least one table"):
        read(path)


@pytest.mark.parametrize("images", [True, False])
@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_wherever_a_tar_is_cut_its_prefix_is_read(
    tmp_path: Path, read: Any, images: bool, suffix: str
) -> None:
    whole = tar(samples(3))
    sample = len(b"".join([*[bytes(512)] * 3, bytes(1024), bytes(512), bytes(512)]))
    path = tmp_path / f"a.{suffix}"
    for size in range(1, 3 * sample + 511, 100):
        cut = whole[:size]
        path.write_bytes(cut if suffix == "tar" else gzip.compress(cut))
        table = read(path, images=images)
        rejects = table["reject"].to_pylist()
        assert rejects[-1] == "truncated"
        assert rejects[:-1] == [None] * (len(rejects) - 1)
        assert len(rejects) - 1 >= (size - 512) // sample


def test_a_truncated_gzip_of_a_tar_ends_in_one_rejected_pair(tmp_path: Path, read: Any) -> None:
    path = tmp_path / "a.tar.gz"
    whole = gzip.compress(tar(samples(500)))
    path.write_bytes(whole[: len(whole) // 2])
    rejects = read(path)["reject"].to_pylist()
    assert len(rejects) > 100
    assert rejects == [None] * (len(rejects) - 1) + ["truncated"]


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_garbage_is_unreadable(tmp_path: Path, read: Any, name: str) -> None:
    garbage = b"this is no tar at all. " * 100
    path = tmp_path / name
    path.write_bytes(garbage if name == "a.tar" else gzip.compress(garbage))
    with pytest.raises(UnreadableInputError, match=f"{name}: is not a tar"):
        read(path)


def test_a_negative_size_does_not_loop(path: Path, read: Any) -> None:
    whole = tar([("0.jpg", b"J"), ("1.jpg", b"J")], tarfile.GNU_FORMAT)
    header = tarfile.TarInfo("1.jpg")
    header.size = -1024
    broken = header.tobuf(tarfile.GNU_FORMAT)
    path.write_bytes(whole[:1024] + broken + whole[1536:])
    assert read(path)["reject"].to_pylist() == ["truncated"]
    path.write_bytes(broken + whole[512:])
    with pytest.raises(UnreadableInputError, match="negative size"):
        read(path)


WHOLE = tar([*samples(2), ("é" * 200 + ".jpg", b"J")])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(position=st.integers(0, len(WHOLE) - 1), damage=st.binary(min_size=1, max_size=20))
@pytest.mark.parametrize("images", [True, False])
def test_damage_anywhere_is_rejected_rows_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, read: Any, images: bool, position: int, damage: bytes
) -> None:
    path = tmp_path_factory.mktemp("damage") / "a.tar"
    path.write_bytes(WHOLE[:position] + damage + WHOLE[position + len(damage) :])
    try:
        read(path, images=images).validate(full=True)
    except PoolError as error:
        assert "a.tar" in str(error)


def test_json_keeps_what_it_said(path: Path, read: Any) -> None:
    content = json.dumps({"caption": ["a", "b"], "width": 3.50})
    path.write_bytes(tar([("0.webp", b"W"), ("0.json", content.encode())]))
    table = read(path)
    assert table["json"].to_pylist() == [content, content]
    assert table["text_index"].to_pylist() == [0, 1]
