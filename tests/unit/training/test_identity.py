from clipcurate.training.config import config_for
from clipcurate.training.identity import training_id

MANIFEST = {"identity": {"emission_id": "e"}, "content_hash": "c", "provenance": {"host": "a"}}


def test_id_depends_on_dataset_settings_and_evaluation_only() -> None:
    base = training_id(MANIFEST, config_for("tiny"))
    assert len(base) == 32
    assert base == training_id({**MANIFEST, "provenance": {"host": "b"}}, config_for("tiny"))
    assert base == training_id(MANIFEST, config_for("tiny", {"cache_bytes": "0"}))
    others = {
        training_id({**MANIFEST, "content_hash": "d"}, config_for("tiny")),
        training_id(MANIFEST, config_for("tiny", {"lr": "1"})),
        training_id(MANIFEST, config_for("tiny"), "eval"),
    }
    assert len(others | {base}) == 4
