from pathlib import Path

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from clipcurate import storage
from clipcurate.datasets.sections import pack, read_section
from clipcurate.errors import NotFoundError, StorageError

SECTIONS = [b"", b"one", b"", b"and another one", b""]


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=9))
def test_every_section_comes_back_by_itself(sections: list[bytes]) -> None:
    storage.filesystem("memory://s")[0].pipe_file("/s", pack(sections))
    assert [read_section("memory://s", i) for i in range(len(sections))] == sections


def test_the_layout_by_hand() -> None:
    content = pack([b"ab", b"c"])
    expected = b""
    for start, section in ((64, b"ab"), (66, b"c")):
        fields = [start, len(section), xxhash.xxh3_64_intdigest(section)]
        entry = b"".join(number.to_bytes(8, "little") for number in fields)
        expected += entry + xxhash.xxh3_64_intdigest(entry).to_bytes(8, "little")
    assert content == expected + b"abc"


def test_every_flipped_byte_of_a_section_is_noticed(tmp_path: Path) -> None:
    path, content = tmp_path / "file", pack(SECTIONS)
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        damaged = 0
        for number, section in enumerate(SECTIONS):
            try:
                assert read_section(str(path), number) == section
            except StorageError:
                damaged += 1
        assert damaged == 1, place


def test_what_is_cut_off_or_missing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(pack(SECTIONS)[:-1])
    assert read_section(str(path), 1) == b"one"
    with pytest.raises(StorageError, match="section 3 is not what was written"):
        read_section(str(path), 3)
    path.write_bytes(b"short")
    with pytest.raises(StorageError, match="section 0"):
        read_section(str(path), 0)
    with pytest.raises(NotFoundError, match="no such file"):
        read_section(str(tmp_path / "none"), 0)
