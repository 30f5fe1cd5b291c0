import pyarrow as pa

from clipcurate.hashing import hash_file, hash_json
from clipcurate.languages import CodeMap, IdentifierModel, LanguageChoice
from clipcurate.languages.identify import builtin_model

CODES = CodeMap.for_metadata(["en", "zh"])
PAIRS = pa.table(
    {"lang": ["EN_us", "", "fr"], "text": ["a cat", "今天天气很好，我们去公园散步吧", None]}
)
MODEL = IdentifierModel(hash_file(builtin_model()))


def test_the_pools_column_or_the_identifier_chooses() -> None:
    assert LanguageChoice(CODES).chooser("")(PAIRS).tolist() == ["en", "other", "fr"]
    identified = LanguageChoice(CODES, MODEL).chooser("")(PAIRS)
    assert identified.tolist() == ["en", "zh", "other"]


def test_json_and_back() -> None:
    for choice in (LanguageChoice(CODES), LanguageChoice(CODES, IdentifierModel("a", "m.ftz"))):
        assert LanguageChoice.from_json(choice.to_json()) == choice


def test_the_identity_is_the_models_hash_and_where_codes_lead() -> None:
    def identity(codes: CodeMap, model: IdentifierModel | None) -> str:
        return hash_json(LanguageChoice(codes, model).identity())

    first = identity(CODES, MODEL)
    assert identity(CODES, IdentifierModel(MODEL.hash, "elsewhere.ftz")) == first
    others = {
        identity(CODES, None),
        identity(CODES, IdentifierModel("0" * 32)),
        identity(CodeMap.for_metadata(["en", "zh"], {"fr": "en"}), MODEL),
    }
    assert len(others | {first}) == 4
