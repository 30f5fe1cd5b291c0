from dataclasses import replace
from pathlib import Path

import pytest

from clipcurate.balancing import Semantics
from clipcurate.datasets.forecast import forecast
from clipcurate.datasets.manifest import load
from clipcurate.datasets.request import EmissionRequest
from clipcurate.metadata import ALL

BALANCED = EmissionRequest("balanced", t=4.0, seed=7)


@pytest.mark.parametrize("semantics", ["pair", "metaclip2", "record"])
def test_a_forecast_says_what_the_dataset_then_says_of_itself(  # type: ignore[no-untyped-def]
    make_run, parquet_pool: Path, semantics: Semantics
) -> None:
    run = make_run(parquet_pool, task_rows=20)
    request = replace(BALANCED, semantics=semantics)
    found = forecast(request, run.counts, run.scored(request))
    manifest = load(run.emit(request))
    assert found.size == found.sizes[ALL] == manifest.totals.kept
    assert {name: cut.to_json() for name, cut in found.cuts.items()} == manifest.cuts
    assert found.expected == pytest.approx(manifest.expected_size, abs=1e-6)
    assert found.deviation == pytest.approx(manifest.size_deviation, abs=1e-6)
    assert found.languages[ALL].expected == pytest.approx(found.expected)
    assert found.languages[ALL].deviation == pytest.approx(found.deviation)
    assert found.languages[ALL].tail_share == manifest.tail_shares[ALL]


def test_a_size_is_foretold_exactly(make_run, parquet_pool: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool, task_rows=20)
    request = EmissionRequest("balanced", size=17, seed=3)
    assert forecast(request, run.counts, run.scored(request)).size == 17
