"""A pool that is announced as a part of a larger one: its counts stand for the larger one's."""

import json
from pathlib import Path

import numpy as np
import pytest

from clipcurate.datasets.run_record import FrozenRun
from clipcurate.datasets.verify import verify_dataset
from clipcurate.metadata import ALL
from tests.conftest import CommandLine
from tests.pools import make_pool, write_metadata

ROWS = 600
ANNOUNCED = 6000
T = 100.0


@pytest.fixture
def arguments(tmp_path: Path) -> list[object]:
    make_pool(tmp_path / "pool", ROWS)
    metadata = write_metadata(tmp_path / "metadata.json")
    pool = ["run", "--pool", tmp_path / "pool", "--metadata", metadata, "--task-rows", 100]
    return [*pool, "--output", tmp_path / "out"]


def test_a_tenth_of_a_pool_is_thinned_as_the_whole_pool_would_be(
    arguments: list[object], tmp_path: Path, command_line: CommandLine
) -> None:
    done = command_line(*arguments, "--t", T, "--announced-pairs", ANNOUNCED)
    assert done.returncode == 0, done.stderr
    manifest = verify_dataset(done.stdout.strip(), str(tmp_path / "out"))
    frozen = FrozenRun.open(str(tmp_path / "out"))
    raw, counts = frozen.raw_counts()[ALL], frozen.counts()[ALL]
    assert np.array_equal(counts, np.maximum(1, raw * (ANNOUNCED // ROWS)))
    assert raw.max() > 100
    assert manifest.totals.pairs == manifest.identity["projected"]["seen"] == ROWS
    assert manifest.identity["projected"]["announced"] == ANNOUNCED
    assert (manifest.provenance["pool"], manifest.provenance["stability"]) == ("open", "complete")

    planned = command_line("plan", tmp_path / "out", "--t", T, "--json")
    assert json.loads(planned.stdout)["size"] == manifest.totals.kept
    compared = command_line("recount", tmp_path / "out")
    assert (compared.returncode, "no difference" in compared.stderr) == (0, True), compared.stderr

    sealed = command_line(*arguments, "--t", T)
    assert (sealed.returncode, "6000 announced pairs, not none" in sealed.stderr) == (1, True)
    (tmp_path / "whole").mkdir()
    whole = command_line(*arguments[:-1], tmp_path / "whole", "--t", T / 10)
    assert whole.returncode == 0, whole.stderr
    matched = set(np.load(Path(done.stdout.strip()) / "uids.npy").tolist())
    same_law = set(np.load(Path(whole.stdout.strip()) / "uids.npy").tolist())
    assert matched == same_law, "p = t / c is the same where t and c are both ten times as large"


def test_a_part_whose_counts_converged_stands_for_the_announced_pool(
    arguments: list[object], tmp_path: Path, command_line: CommandLine
) -> None:
    """One matcher ends a window at each task; any drift will do, so the second is enough."""
    early = ["--freeze", "converged", "--epsilon", 100, "--windows", 1, "--workers", 1]
    done = command_line(*arguments, *early, "--t", T, "--announced-pairs", ANNOUNCED)
    assert done.returncode == 0, done.stderr
    manifest = verify_dataset(done.stdout.strip(), str(tmp_path / "out"))
    assert manifest.totals.pairs == ROWS
    assert manifest.identity["projected"]["announced"] == ANNOUNCED
    assert manifest.identity["projected"]["seen"] <= ROWS
    found = manifest.provenance
    assert (found["pool"], found["stability"]) == ("open", "converged")
    assert found["convergence"]["windows"] == 1
    assert "of the pool, converged" in done.stderr


@pytest.mark.parametrize("more", [["--size", 50], ["--t", T, "--dedup", "uid"]])
def test_what_needs_the_whole_pool_is_refused(
    arguments: list[object], command_line: CommandLine, more: list[object]
) -> None:
    done = command_line(*arguments, *more, "--announced-pairs", ANNOUNCED)
    assert (done.returncode, "needs the whole pool" in " ".join(done.stderr.split())) == (1, True)
