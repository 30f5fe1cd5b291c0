from pathlib import Path

import pytest

from clipcurate.errors import MetadataError, NotFoundError
from clipcurate.metadata import ALL, load_languages, require_language_name


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


def entries(*paths: Path, dedupe: bool = False) -> dict[str, tuple[str, ...]]:
    found = load_languages([str(path) for path in paths], dedupe=dedupe)
    return {name: metadata.entries for name, metadata in found.items()}


def test_one_file_serves_all_texts(tmp_path: Path) -> None:
    folder = write(tmp_path, en__txt="cat\n")
    assert entries(folder / "en.txt") == {ALL: ("cat",)}


def test_a_folder_is_a_file_per_language(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "m", zh__txt="猫\n", en__json='["cat"]', README__md="no", LICENSE="no"
    )
    write(folder, __hidden__txt="no")
    assert list(entries(folder).items()) == [("en", ("cat",)), ("zh", ("猫",))]


def test_a_folder_of_one_file_is_one_language(tmp_path: Path) -> None:
    assert entries(write(tmp_path / "m", en__txt="cat\n")) == {"en": ("cat",)}


def test_several_files_and_folders(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", en__txt="cat\n")
    other = write(tmp_path / "n", other__txt="x\nx\n")
    assert entries(folder, other / "other.txt", dedupe=True) == {"en": ("cat",), "other": ("x",)}


def test_what_cannot_be_meant(tmp_path: Path) -> None:
    empty = write(tmp_path / "empty", README__md="no")
    with pytest.raises(MetadataError, match=r"no metadata in this folder.*\.json"):
        entries(empty)
    twice = write(tmp_path / "twice", zh_TW__txt="a\n")
    write(twice, **{"zh-tw__json": '["a"]'})
    with pytest.raises(MetadataError, match="two lists for one language"):
        entries(twice)
    reserved = write(tmp_path / "reserved", all__txt="a\n", en__txt="a\n")
    with pytest.raises(MetadataError, match="'all' is the one list"):
        entries(reserved)
    named = write(tmp_path / "named", **{"pt br__txt": "a\n"})
    with pytest.raises(MetadataError, match="'pt br' cannot name a language"):
        entries(named)
    bad = write(tmp_path / "bad", en__txt="a\na\n")
    with pytest.raises(MetadataError, match=r"bad/en\.txt: .*1 repeats 0"):
        entries(bad)
    with pytest.raises(NotFoundError, match="missing"):
        entries(bad / "missing.txt")


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "x" * 65, "é", "-a"])
def test_names_that_are_no_files_names(name: str) -> None:
    with pytest.raises(MetadataError, match=r"here: .*letters, digits"):
        require_language_name(name, "here")
