from pathlib import Path

import pytest

from clipcurate import storage
from clipcurate.cli.languages import LanguageRequest, PlannedLanguages, plan_languages
from clipcurate.errors import InvalidInputError, NotFoundError
from clipcurate.hashing import hash_bytes, hash_file
from clipcurate.languages.identify import builtin_model, load_identifier


def test_one_list_for_all_needs_no_language() -> None:
    assert plan_languages(["all"], LanguageRequest()) == PlannedLanguages(None)
    for request in (LanguageRequest("builtin"), LanguageRequest(codes={"a": "b"})):
        with pytest.raises(InvalidInputError, match="per language"):
            plan_languages(["all"], request)


def test_the_pools_column_unless_the_identifier_is_asked_for(tmp_path: Path) -> None:
    by_column = plan_languages(["en"], LanguageRequest(codes={"tlh": "en"}))
    assert by_column.choice is not None
    assert by_column.choice.model is None
    assert by_column.choice.codes.of("tlh") == "en"
    identified = plan_languages(["en"], LanguageRequest("builtin")).choice
    assert identified is not None
    assert identified.model is not None
    assert (identified.model.hash, identified.model.file) == (hash_file(builtin_model()), "")
    by_column.publish(str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_model_of_ones_own_goes_to_the_runs_folder(tmp_path: Path) -> None:
    content = builtin_model().read_bytes()
    (tmp_path / "lid.bin").write_bytes(content)
    planned = plan_languages(["en"], LanguageRequest(str(tmp_path / "lid.bin")))
    assert planned.choice is not None
    assert planned.choice.model is not None
    assert planned.choice.model.hash == hash_bytes(content)
    planned.publish(str(tmp_path / "run"))
    published = storage.join(str(tmp_path / "run"), planned.choice.model.file)
    assert storage.read_bytes(published) == content
    (tmp_path / "lid.bin").unlink()
    assert load_identifier(planned.choice.model, str(tmp_path / "run"))


def test_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "lid.bin").write_bytes(b"nonsense")
    with pytest.raises(InvalidInputError, match=r"lid\.bin: not a fastText identifier"):
        plan_languages(["en"], LanguageRequest(str(tmp_path / "lid.bin")))
    with pytest.raises(NotFoundError, match="missing"):
        plan_languages(["en"], LanguageRequest(str(tmp_path / "missing")))
