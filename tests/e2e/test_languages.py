"""Metadata per language, from the command line: each text meets its own language's entries."""

import json
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipcurate.balancing import thresholds, thresholds_for
from clipcurate.datasets import manifest as manifests
from clipcurate.languages.identify import builtin_model
from tests.conftest import CommandLine

ENTRIES = {
    "en": ["a", "cat", "dog", "a cat", "photo"],
    "zh": ["猫", "沙发", "天气"],
    "th": ["แมว", "โซฟา"],
    "other": ["gato", "mačka"],
}
TEXTS = [  # text, code, metadata language, number of hits
    ("a cat", "en", "en", 3),
    ("a photo, a dog", "en_US", "en", 3),
    ("nothing here", "EN", "en", 0),
    ("猫 沙发", "zh-Hant-TW", "zh", 2),
    ("猫", "cmn", "zh", 1),
    ("แมว", "th", "th", 1),
    ("a cat", "th", "th", 0),
    ("un chat", "fr", "fr", 0),
    ("a cat", "fr-CA", "fr", 0),
    ("gato", "", "other", 1),
    ("mačka", "xx-unknown", "other", 1),
    ("gato", "tlh", "en", 0),
    (None, "en", "", 0),
]
REPEATS = 12
T = 20.0


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("languages")
    (folder / "metadata").mkdir()
    for name, entries in ENTRIES.items():
        content = json.dumps(entries, ensure_ascii=False)
        (folder / "metadata" / f"{name}.json").write_text(content)
    (folder / "map.json").write_text('{"tlh": "en"}')
    rows = [row for row in TEXTS for _ in range(REPEATS)]
    table = pa.table(
        {
            "url": [f"http://127.0.0.1/{number}" for number in range(len(rows))],
            "text": [text for text, *_ in rows],
            "lang": [code for _, code, *_ in rows],
        }
    )
    pq.write_table(table, folder / "pool.parquet", row_group_size=20)
    pq.write_table(table.drop_columns(["lang"]), folder / "bare.parquet")
    return folder


def rows_of(dataset: str) -> list[tuple[object, ...]]:
    return duckdb.sql(f"SELECT * FROM '{dataset}/pairs-*.parquet'").fetchall()


def arguments(inputs: Path, output: Path, pool: str, *more: object) -> list[object]:
    args = ["run", "--pool", inputs / pool, "--metadata", inputs / "metadata"]
    return [*args, "--output", output, "--rule", "metaclip2", *more]


@dataclass(frozen=True)
class Mapped:
    """A run over codes with a map, its raw and balanced datasets, and what it printed."""

    output: Path
    options: list[object]
    raw: str
    balanced: str
    printed: str

    @property
    def counts(self) -> dict[str, Any]:
        """Frozen counts by metadata language."""
        return {name: np.load(f"{self.balanced}/counts-{name}.npy") for name in ENTRIES}


@pytest.fixture(scope="module")
def mapped(
    command_line: CommandLine, inputs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Mapped:
    output = tmp_path_factory.mktemp("mapped")
    options = ["--language-map", inputs / "map.json", "--task-rows", 40]
    kinds = ["--t", T, "--emit", "raw", "--emit", "balanced"]
    done = command_line(*arguments(inputs, output, "pool.parquet", *options, *kinds))
    assert done.returncode == 0, done.stderr
    raw, balanced = sorted(done.stdout.split(), reverse=True)
    return Mapped(output, options, raw, balanced, " ".join(done.stderr.split()))


def test_each_text_meets_the_entries_of_its_codes_language(
    command_line: CommandLine, mapped: Mapped
) -> None:
    found = duckdb.sql(
        "SELECT text, lang, metadata_lang, len(entry_ids), count(*) "
        f"FROM '{mapped.raw}/pairs-*.parquet' GROUP BY ALL"
    ).fetchall()
    assert sorted(found) == sorted((*row, REPEATS) for row in TEXTS if row[0] is not None)
    manifest = manifests.load(mapped.balanced)
    unmatched = Counter(language for _, _, language, hits in TEXTS if language and not hits)
    expected = {name: number * REPEATS for name, number in unmatched.items()}
    assert manifest.provenance["unmatched_by_language"] == expected
    assert manifest.totals.unmatched == sum(expected.values())
    assert manifest.totals.rejected == REPEATS
    assert {name: cut["t"] for name, cut in manifest.cuts.items()} == thresholds(mapped.counts, T)
    assert "4 metadata languages: en, other, th, zh" in mapped.printed
    assert "fr │ 24 │ no metadata" in mapped.printed
    for dataset in (mapped.raw, mapped.balanced):
        checked = command_line("verify", dataset, "--run", mapped.output)
        assert checked.returncode == 0, checked.stderr


def test_the_plan_foretells_each_language(command_line: CommandLine, mapped: Mapped) -> None:
    manifest = manifests.load(mapped.balanced)
    planned = command_line("plan", mapped.output, "--t", T, "--json").stdout.splitlines()
    lines = {line["language"]: line for line in map(json.loads, planned)}
    assert sum(line["size"] for line in lines.values()) == manifest.totals.kept
    assert sum(line["expected"] for line in lines.values()) == pytest.approx(manifest.expected_size)
    assert {name: line["tail_share"] for name, line in lines.items()} == manifest.tail_shares
    kept = duckdb.sql(
        f"SELECT metadata_lang, count(*) FROM '{mapped.balanced}/pairs-*.parquet' GROUP BY ALL"
    ).fetchall()
    assert {name: line["size"] for name, line in lines.items() if line["size"]} == dict(kept)
    shown = command_line("plan", mapped.output, "--t", T).stdout
    assert f"{manifest.totals.kept:,}" in next(line for line in shown.split("\n") if "all" in line)


def test_a_smaller_t_is_resolved_per_language(command_line: CommandLine, mapped: Mapped) -> None:
    smaller = command_line("rethreshold", mapped.balanced, "--t", T / 2)
    assert smaller.returncode == 0, smaller.stderr
    subset = smaller.stdout.strip()
    cuts = {name: cut["t"] for name, cut in manifests.load(subset).cuts.items()}
    assert cuts == thresholds(mapped.counts, T / 2)
    checked = command_line("verify", subset, "--run", mapped.output)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("base", [[], ["--t", 3]], ids=["by tail share", "by t"])
def test_exact_sizes_over_all_languages(
    command_line: CommandLine, inputs: Path, mapped: Mapped, base: list[object]
) -> None:
    def emit(size: int) -> str:
        wanted = [*mapped.options, "--size", size, *base]
        done = command_line(*arguments(inputs, mapped.output, "pool.parquet", *wanted))
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def proven(dataset: str) -> bool:
        return command_line("verify", dataset, "--run", mapped.output).returncode == 0

    foretold = command_line("plan", mapped.output, "--size", 50, *base, "--json").stdout
    exact = emit(50)
    assert proven(exact)
    manifest = manifests.load(exact)
    sizes = [json.loads(line)["size"] for line in foretold.splitlines()]
    assert manifest.totals.kept == 50 == sum(sizes)
    counts = mapped.counts
    bases = thresholds(counts, 3.0) if base else thresholds_for(counts, 0.06)
    assert {name: cut.get("base", 1.0) for name, cut in manifest.cuts.items()} == bases
    thinned = command_line("rethreshold", exact, "--size", 31, *base)
    assert thinned.returncode == 0, thinned.stderr
    assert proven(thinned.stdout.strip())
    assert rows_of(thinned.stdout.strip()) == rows_of(emit(31))
    larger = command_line("rethreshold", exact, "--size", 51, *base)
    assert larger.returncode == 1
    assert "holds 50 pairs, fewer than the 51 asked for" in " ".join(larger.stderr.split())


def test_the_literal_tail_rule_drops_whole_languages_and_says_so(
    command_line: CommandLine, inputs: Path, tmp_path: Path
) -> None:
    """The share lies among the entries without texts of zh and th, where p_to_t gives 0."""
    more = ["--language-map", inputs / "map.json", "--tail-share", 0.001]
    literal = arguments(inputs, tmp_path, "pool.parquet", *more, "--tail-rule", "literal")
    done = command_line(*literal)
    assert done.returncode == 0, done.stderr
    manifest = manifests.load(done.stdout.strip())
    assert manifest.identity["target"] == {"tail_share": 0.001, "tail_rule": "literal"}
    zeros = {name for name, cut in manifest.cuts.items() if cut["t"] == 0}
    assert zeros == {"zh", "th"}
    kept = duckdb.sql(f"SELECT metadata_lang FROM '{done.stdout.strip()}/pairs-*.parquet'")
    assert {name for (name,) in kept.fetchall()} == {"en", "other"}
    warning = "t is 0 in th, zh, so all pairs there are dropped"
    assert warning in " ".join(done.stderr.split())
    planned = command_line("plan", tmp_path, *more[2:], "--tail-rule", "literal")
    assert warning in " ".join(planned.stderr.split())
    assert command_line("verify", done.stdout.strip(), "--run", tmp_path).returncode == 0
    usual = command_line(*arguments(inputs, tmp_path, "pool.parquet", *more))
    assert all(cut["t"] > 0 for cut in manifests.load(usual.stdout.strip()).cuts.values())


def test_languages_told_by_the_texts_and_a_model_of_ones_own(
    command_line: CommandLine, inputs: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.ftz"
    shutil.copy(builtin_model(), own)
    runs = []
    for name, model in (("builtin", "builtin"), ("own", own)):
        more = ["--identify-languages", model, "--emit", "matched"]
        done = command_line(*arguments(inputs, tmp_path / name, "bare.parquet", *more))
        assert done.returncode == 0, done.stderr
        runs.append(manifests.load(done.stdout.strip()))
    own.unlink()
    checked = command_line("verify", done.stdout.strip(), "--run", tmp_path / "own")
    assert checked.returncode == 0, checked.stderr
    builtin, other = runs
    assert builtin.dataset_hash == other.dataset_hash
    found = duckdb.sql(
        f"SELECT DISTINCT metadata_lang FROM '{done.stdout.strip()}/pairs-*.parquet'"
    ).fetchall()
    assert {("en",), ("th",)} <= set(found)


def test_without_codes_and_without_an_identifier(
    command_line: CommandLine, inputs: Path, tmp_path: Path
) -> None:
    done = command_line(*arguments(inputs, tmp_path, "bare.parquet", "--t", T))
    assert done.returncode == 1
    message = " ".join(done.stderr.split())
    assert "bare.parquet: no language column" in message
    assert "--lang-column, or add --identify-languages builtin" in message
    one = [*arguments(inputs, tmp_path, "pool.parquet", "--t", T)]
    one[one.index("--metadata") + 1] = inputs / "metadata" / "en.json"
    done = command_line(*one, "--identify-languages", "builtin")
    assert done.returncode == 1
    assert "per language" in done.stderr
