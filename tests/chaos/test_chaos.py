"""A short form of the soak: real processes, real faults, the same bytes."""

from collections.abc import Iterator
from random import Random

import pytest

from tests.chaos.faults import kinds
from tests.chaos.pool import VARIANTS
from tests.chaos.scene import Fault
from tests.chaos.soak import shuffled
from tests.chaos.trial import Trial, trial

ROWS = 6000
RUNS, EACH = 3, 5


@pytest.fixture(scope="module")
def running() -> Iterator[Trial]:
    with trial(ROWS) as found:
        yield found


@pytest.fixture(scope="module")
def chosen(running: Trial) -> list[Fault]:
    quick = [fault for fault in kinds(running.system) if "forgets" not in fault.name]
    return shuffled(Random(4), quick, RUNS * EACH)


def test_redis_is_durable_as_deployed(running: Trial) -> None:
    with running.system.redis() as client:
        found = client.config_get("append*")
    assert (found["appendonly"], found["appendfsync"]) == ("yes", "always")


@pytest.mark.parametrize("number", range(RUNS))
def test_faults_change_no_byte(running: Trial, chosen: list[Fault], number: int) -> None:
    variant = VARIANTS[number % len(VARIANTS)]
    running.disturbed(Random(number), variant, chosen[number * EACH : (number + 1) * EACH])
