import dataclasses
import hashlib
import io
import json
import math
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from demo.captions import KIND_SHARES, TextKind
from demo.concepts import CONCEPTS
from demo.config import FULL, QUICK
from demo.pool import Sample, concept_ranks, concept_weights, plan_samples, write_pool

SMALL = dataclasses.replace(QUICK, images=250, shard_images=100)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return list(plan_samples(FULL))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    hashes = []
    for number, seed in enumerate((0, 0, 1)):
        folder = tmp_path / str(number)
        assert write_pool(dataclasses.replace(SMALL, seed=seed), folder) == 3
        tars = sorted(folder.iterdir())
        assert [tar.name for tar in tars] == ["00000.tar", "00001.tar", "00002.tar"]
        hashes.append([hashlib.sha256(tar.read_bytes()).hexdigest() for tar in tars])
    assert hashes[0] == hashes[1]
    assert not set(hashes[0]) & set(hashes[2])


def test_tars_hold_the_planned_pairs_in_order(tmp_path: Path) -> None:
    write_pool(SMALL, tmp_path / "pool")
    planned = list(plan_samples(SMALL))
    members: dict[str, bytes] = {}
    for path in sorted((tmp_path / "pool").iterdir()):
        with tarfile.open(path) as tar:
            members.update({m.name: tar.extractfile(m).read() for m in tar})  # type: ignore[union-attr]
    assert list(members) == [f"{s.key}.{end}" for s in planned for end in ("jpg", "txt", "json")]
    facts = [json.loads(members[f"{sample.key}.json"]) for sample in planned]
    assert [members[f"{sample.key}.txt"].decode() for sample in planned] == [
        s.text for s in planned
    ]
    assert [fact["caption"] for fact in facts] == [sample.text for sample in planned]
    assert len({fact["uid"] for fact in facts}) == len({fact["url"] for fact in facts}) == 250
    assert all(Image.open(io.BytesIO(members[f"{s.key}.jpg"])).size == (48, 48) for s in planned)


def test_a_sample_does_not_depend_on_its_shard(samples: list[Sample]) -> None:
    assert list(plan_samples(FULL, 5_000, 5_003)) == samples[5_000:5_003]


def test_concepts_follow_zipfs_law(samples: list[Sample]) -> None:
    assert 1.0 <= FULL.zipf_exponent <= 1.3
    counts = Counter(sample.concept for sample in samples)
    assert len(counts) == FULL.num_concepts
    for concept, weight in enumerate(concept_weights(FULL)):
        expected = FULL.images * weight
        assert abs(counts[concept] - expected) < 5 * math.sqrt(expected)
    ranks = np.log(np.arange(1, 31))
    head = np.log([counts[concept] for concept in concept_ranks(FULL)[:30]])
    assert -np.polyfit(ranks, head, 1)[0] == pytest.approx(FULL.zipf_exponent, abs=0.1)


def test_kinds_of_text_have_their_shares(samples: list[Sample]) -> None:
    counts = Counter(sample.kind for sample in samples)
    for kind, share in KIND_SHARES.items():
        assert counts[kind] / len(samples) == pytest.approx(share, abs=0.02)


def test_captions_name_what_the_picture_shows(samples: list[Sample]) -> None:
    right = [s for s in samples if s.kind is TextKind.CAPTION]
    assert all(_says(sample) for sample in right)
    wrong = [s for s in samples if s.kind is TextKind.IRRELEVANT]
    assert sum(map(_says, wrong)) / len(wrong) < 0.1


def _says(sample: Sample) -> bool:
    return CONCEPTS[sample.concept].name in sample.text.lower().replace("-", " ")
