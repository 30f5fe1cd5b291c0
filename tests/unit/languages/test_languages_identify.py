import sys
from pathlib import Path

import pyarrow as pa
import pytest

from clipcurate.errors import InvalidInputError, NotFoundError, StorageError
from clipcurate.hashing import hash_file
from clipcurate.languages import identify
from clipcurate.languages.identify import (
    Identifier,
    IdentifierModel,
    builtin_model,
    identifier_of,
    load_identifier,
)

TEXTS = {
    "a photo of a cat on the sofa": "en",
    "Fondant au chocolat\net tarte aux myrtilles": "fr",
    "猫の写真です": "ja",
    "แมวนอนอยู่บนโซฟา": "th",
    "Красная площадь": "ru",
}


@pytest.fixture(scope="module")
def identifier() -> Identifier:
    return Identifier(builtin_model())


def test_it_tells_languages_apart(identifier: Identifier) -> None:
    column = pa.array([*TEXTS], pa.large_string())
    assert identifier.codes(column).to_pylist() == [*TEXTS.values()]
    assert identifier.codes(pa.chunked_array([column[:2], column[2:]])).to_pylist() == [
        *TEXTS.values()
    ]


def test_where_there_is_nothing_to_read_there_is_no_code(identifier: Identifier) -> None:
    texts = pa.array([None, "", " \n\t", "\u3000"], pa.large_string())
    assert identifier.codes(texts).to_pylist() == [None] * 4
    assert identifier.codes(pa.array([], pa.string())).type == pa.string()


def test_awkward_texts_have_some_code(identifier: Identifier) -> None:
    texts = pa.array(["\0", "a\0b", "</s>", "🐈" * 5000, "\r\n x \u2028", "x" * 200_000])
    assert all(identifier.codes(texts).to_pylist())


def test_what_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "model.ftz"
    for content in (b"", b"nonsense"):
        path.write_bytes(content)
        with pytest.raises(InvalidInputError, match=r"model\.ftz"):
            Identifier(path)
    with pytest.raises(InvalidInputError):
        Identifier(tmp_path / "missing.ftz")


def test_a_run_loads_the_model_that_it_names(tmp_path: Path) -> None:
    digest = hash_file(builtin_model())
    assert load_identifier(IdentifierModel(digest), "").codes(pa.array(["der Hund"]))[0].as_py()
    with pytest.raises(InvalidInputError, match="install the same version"):
        load_identifier(IdentifierModel("0" * 32), "")
    (tmp_path / "own.ftz").write_bytes(builtin_model().read_bytes())
    own = load_identifier(IdentifierModel(digest, "own.ftz"), str(tmp_path))
    assert own.codes(pa.array([*TEXTS])).to_pylist() == [*TEXTS.values()]
    with pytest.raises(StorageError, match="hash"):
        load_identifier(IdentifierModel("0" * 32, "own.ftz"), str(tmp_path))


def test_a_model_from_its_bytes_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert identifier_of(builtin_model().read_bytes()).codes(pa.array(["a dog"]))[0].as_py() == "en"
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_installed_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    path = builtin_model()
    monkeypatch.setattr(identify, "_PACKAGE", "no_such_package")
    with pytest.raises(NotFoundError, match=r"clipcurate\[languages\]"):
        builtin_model()
    monkeypatch.setitem(sys.modules, "fasttext", None)
    with pytest.raises(NotFoundError, match=r"clipcurate\[languages\]"):
        Identifier(path)
