import json
from collections import Counter
from pathlib import Path

import pytest

from demo.captions import TextKind
from demo.config import FULL
from demo.metadata import UNSEEN, entries, write_metadata
from demo.pool import plan_samples

Hits = list[tuple[TextKind, list[str]]]


@pytest.fixture(scope="module")
def hits() -> Hits:
    """For a part of the pool: kind and matched entries of every text, by the rule's definition."""
    found = entries(FULL.names)
    return [
        (sample.kind, [entry for entry in found if f" {entry} " in _spaced(sample.text)])
        for sample in plan_samples(FULL, 0, 4_000)
    ]


def _spaced(text: str) -> str:
    for mark in ",.;:?!`":
        text = text.replace(mark, f" {mark} ")
    return f" {text} "


def test_it_is_a_json_list_of_distinct_entries(tmp_path: Path) -> None:
    count = write_metadata(FULL.names, tmp_path / "metadata.json")
    read = json.loads((tmp_path / "metadata.json").read_text())
    assert read == entries(FULL.names)
    assert len(read) == len(set(read)) == count
    assert all(entry and entry == entry.strip() for entry in read)
    assert set(FULL.names) <= set(read)
    assert sum(entry == entry.lower() for entry in read) / count > 0.9


def test_hundreds_of_entries_never_occur(hits: Hits) -> None:
    counts = Counter(entry for _, matched in hits for entry in matched)
    assert len(set(UNSEEN.split())) >= 300
    assert set(UNSEEN.split()) & set(counts) == set()


def test_file_names_match_nothing_and_the_rest_mostly_something(hits: Hits) -> None:
    by_kind = Counter((kind, bool(matched)) for kind, matched in hits)
    assert by_kind[TextKind.UNMATCHED, True] == 0
    assert by_kind[TextKind.CAPTION, True] > 10 * by_kind[TextKind.CAPTION, False] > 0
    assert by_kind[TextKind.IRRELEVANT, True] > 10 * by_kind[TextKind.IRRELEVANT, False]


def test_the_head_holds_most_matches(hits: Hits) -> None:
    counts = Counter(entry for _, matched in hits for entry in matched)
    top = sum(count for _, count in counts.most_common(len(entries(FULL.names)) // 10))
    assert top > 0.6 * counts.total()
