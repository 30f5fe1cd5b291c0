from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcurate.errors import InvalidInputError, NotFoundError
from clipcurate.languages.codes import CodeMap, load_language_map, normalize, prefixes


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("en", "en"), ("EN", "en"), (" pt_BR ", "pt-br"), ("pt_BR.UTF-8", "pt-br"),
        ("sr_RS@latin", "sr-rs"), ("zh-Hant-TW", "zh-hant-tw"), ("__label__yue", "yue"), ("", ""),
    ],
)  # fmt: skip
def test_normalize(written: str, code: str) -> None:
    assert normalize(written) == code


def test_prefixes_from_long_to_short() -> None:
    assert list(prefixes("zh-hant-tw")) == ["zh-hant-tw", "zh-hant", "zh"]


@pytest.mark.parametrize(
    ("code", "language"),
    [
        ("en", "en"), ("en-US", "en"), ("eng", "en"), ("zh-Hant", "zh"), ("cmn", "zh"),
        ("zho_Hans", "zh"), ("yue", "zh"), ("nan", "zh"), ("nds-NL", "nds"), ("be-tarask", "be"),
        ("iw", "he"), ("in", "id"), ("ji", "yi"), ("jw", "jv"), ("nb", "no"), ("nob", "no"),
        ("nn", "nn"), ("fil", "tl"), ("gsw", "als"), ("als", "als"), ("arb", "ar"), ("arz", "arz"),
        ("ger", "de"), ("pes", "fa"), ("vro", "fiu-vro"), ("cbk-zam", "cbk"), ("no_NO", "no"),
        ("", "other"), ("C", "other"), ("und", "other"), ("klingon", "other"), ("-", "other"),
    ],
)  # fmt: skip
def test_known_codes_lead_to_wikipedias_editions(code: str, language: str) -> None:
    assert CodeMap.for_metadata([]).of(code) == language


def test_the_metadatas_own_names_come_first() -> None:
    codes = CodeMap.for_metadata(["zh_yue", "zh", "zh-Hant", "nb", "Sindarin", "other"])
    said = {
        c: codes.of(c) for c in ("yue", "zh-yue", "lzh", "zh-hant-hk", "nb-NO", "no", "SINDARIN")
    }
    assert said == {
        "yue": "zh_yue", "zh-yue": "zh_yue", "lzh": "zh", "zh-hant-hk": "zh-Hant",
        "nb-NO": "nb", "no": "no", "SINDARIN": "Sindarin",
    }  # fmt: skip


def test_the_users_map_overrides_all() -> None:
    codes = CodeMap.for_metadata(["zh", "en"], {"ZH_Hant": "tw", "en": "zh", "tlh": "en"})
    assert [codes.of(c) for c in ("zh-Hant-TW", "zh", "en-GB", "tlh")] == ["tw", "zh", "zh", "en"]


@given(st.lists(st.sampled_from(["en", "pt_BR", "", None, "?", "yue-Hans"]), max_size=9))
def test_a_column_is_its_codes_one_by_one(codes: list[str | None]) -> None:
    known = CodeMap.for_metadata(["en"])
    expected = [known.of(code or "") for code in codes]
    array = pa.array(codes, pa.string())
    for column in (array, pa.chunked_array([array[:3], array[3:]]), array.dictionary_encode()):
        found = known.of_column(column)
        assert found.tolist() == expected
        assert found.type == pa.dictionary(pa.int32(), pa.string())
        assert sorted(found.dictionary.tolist()) == sorted(set(found.dictionary.tolist()))


def test_a_map_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text('{"zh_Hant": "tw", "zh-hant": "tw", "tlh": "en"}')
    assert load_language_map(str(path)) == {"zh-hant": "tw", "tlh": "en"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("nonsense", "not JSON"), ('["en"]', "object of codes"), ('{"en": 1}', "object of codes"),
        ('{"en": ""}', "cannot name a language"), ('{"en": "../en"}', "code 'en'"),
        ('{"EN": "a", "en": "b"}', "twice"),
    ],
)  # fmt: skip
def test_what_is_no_map_is_refused_with_its_name(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "map.json"
    path.write_text(content)
    with pytest.raises(InvalidInputError, match=message) as error:
        load_language_map(str(path))
    assert str(path) in str(error.value)


def test_a_missing_map(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        load_language_map(str(tmp_path / "map.json"))
