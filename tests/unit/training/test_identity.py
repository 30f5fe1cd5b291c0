import dataclasses

from clipcurate.training.config import config_for
from clipcurate.training.identity import settings_of, training_id

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


def test_id_of_several_datasets_depends_on_each_and_on_its_weight() -> None:
    a, b, tiny = make_manifest("a", 5), make_manifest("b", 5), config_for("tiny")
    mixtures = [[(a, 3), (b, 1)], [(a, 1), (b, 3)], [(b, 1), (a, 3)], [(a, 3), (a, 1)], [(a, 1)]]
    assert len({training_id(mixture, tiny) for mixture in mixtures}) == len(mixtures)
    assert settings_of(mixtures[0], tiny)["dataset"] == [
        [a.dataset_hash, 3], [b.dataset_hash, 1]
    ]  # fmt: skip


def test_one_dataset_is_identified_as_before_there_were_several() -> None:
    manifest, tiny = make_manifest("a", 5), config_for("tiny")
    expected = {"dataset": manifest.dataset_hash, "config": tiny.determinants()}
    assert settings_of(manifest, tiny) == settings_of([(manifest, 1)], tiny) == expected
    assert training_id([(manifest, 1)], tiny) == training_id(manifest, tiny)
