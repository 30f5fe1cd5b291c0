import dataclasses

from clipcurate.training.config import config_for
from clipcurate.training.identity import training_id

from .conftest import make_manifest


def test_id_depends_on_dataset_settings_and_evaluation_only() -> None:
    manifest, tiny = make_manifest("a", 5), config_for("tiny")
    base = training_id(manifest, tiny)
    assert len(base) == 32
    elsewhere = dataclasses.replace(manifest, provenance={"host": "b"})
    assert base == training_id(elsewhere, tiny)
    assert base == training_id(manifest, config_for("tiny", {"cache_bytes": "1e9"}))
    others = {
        training_id(make_manifest("b", 5), tiny),
        training_id(manifest, config_for("tiny", {"lr": "1"})),
        training_id(manifest, tiny, "eval"),
    }
    assert len(others | {base}) == 4
