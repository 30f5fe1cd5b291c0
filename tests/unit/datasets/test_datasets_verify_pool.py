"""Grouped rows: what we write holds, and a wrong choice does not."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipcurate.datasets.manifest import Manifest, load
from clipcurate.datasets.request import EmissionRequest
from clipcurate.datasets.rethreshold import rethreshold
from clipcurate.datasets.verify import Shared, verify_dataset
from clipcurate.errors import DatasetError
from clipcurate.hashing import hash_json

CHOSEN = EmissionRequest("balanced", t=4.0, seed=7, semantics="metaclip2", group="url")
REQUESTS = [
    *(CHOSEN, replace(CHOSEN, semantics="record"), replace(CHOSEN, group="image")),
    replace(CHOSEN, kind="matched", t=None),
    replace(CHOSEN, kind="matched", t=None, semantics="record"),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda r: f"{r.kind}-{r.semantics}-{r.group}")
@pytest.mark.parametrize("task_rows", [10, 1000])
def test_grouped_rows_hold(
    make_run, parquet_pool: Path, request_: EmissionRequest, task_rows: int
) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool, task_rows=task_rows)
    url = run.emit(replace(request_, part_bytes=300))
    assert verify_dataset(url, run.folder) == load(url)
    if request_.semantics == "metaclip2" and request_.group == "url":
        urls = [row["url"] for row in run.kept(request_)]
        assert len(urls) == len(set(urls))


# Run in a process of its own: pytest's has threads of Arrow's from other tests.
COUNT_THREADS = """
import os, sys
from clipcurate.datasets.verify import verify_dataset
before = len(os.listdir("/proc/self/task"))
verify_dataset(*sys.argv[1:])
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted by /proc")
def test_no_thread_outlives_the_proof(make_run, parquet_pool: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool, task_rows=10)
    command = [sys.executable, "-c", COUNT_THREADS, run.emit(CHOSEN), run.folder]
    alone = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # numba imports scipy while it compiles
    told = subprocess.run(command, env=alone, check=True, capture_output=True, text=True).stdout
    assert told == "0\n"


@pytest.mark.parametrize("semantics", ["metaclip2", "record"])
def test_a_smaller_grouped_dataset_is_the_direct_one(
    make_run, parquet_pool: Path, semantics: str
) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool, task_rows=10)
    wanted: Any = {"semantics": semantics, "part_bytes": 300}
    request = replace(CHOSEN, **wanted)
    subset = rethreshold(run.emit(request), 2.0)
    direct = run.emit(replace(request, t=2.0))
    assert verify_dataset(subset, run.folder).totals == load(direct).totals
    size = load(direct).totals.kept
    if semantics == "metaclip2":
        sized = rethreshold(run.emit(replace(request, kind="matched", t=None)), size=size)
        assert verify_dataset(sized, run.folder).totals.kept == size


@pytest.mark.parametrize("semantics", ["metaclip2", "record"])
def test_rows_that_were_not_grouped(
    make_run,  # type: ignore[no-untyped-def]
    parquet_pool: Path,
    rewrite: Callable[..., None],
    semantics: str,
) -> None:
    run = make_run(parquet_pool, task_rows=10)
    request: Any = replace(CHOSEN, semantics=semantics)
    url = run.emit(replace(request, group=None))

    def claim(manifest: Manifest) -> Manifest:
        identity = manifest.identity | {"group": "url"}
        return replace(manifest, identity=identity, emission_id=hash_json(identity))

    rewrite(url, claim)
    verify_dataset(url)
    with pytest.raises(DatasetError, match="other pairs are kept"):
        verify_dataset(url, run.folder)


def test_a_critical_t_that_texts_share_is_one_s_own() -> None:
    shared = Shared()
    assert shared.add(np.array([3.0, 2.0, 5.0]), np.array([1.0, 2.0, 2.0])).all()
    assert shared.waiting.tolist() == [1.0]
    assert not shared.add(np.array([1.0, 1.0]), np.array([1.5, 1.0])).all()
    assert shared.waiting.tolist() == [1.5]
