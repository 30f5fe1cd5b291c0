import numpy as np
import pytest

from clipcurate.datasets.subset_law import SubsetLaw


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_records_that_are_scattered_over_parts(cut: int) -> None:
    now, before = np.array([0.1, 0.2, 0.5, 0.3, 0.4]), np.array([0.2, 0.4, 1.0, 0.6, 0.4])
    critical = np.array([7.0, 3.0, 7.0, 5.0, 3.0])
    law = SubsetLaw.of({"semantics": "record", "group": "url"})
    law.add(now[:cut], before[:cut], critical[:cut])
    law.add(now[cut:], before[cut:], critical[cut:])
    law.finish()
    # of 7.0: texts 0, 2; of 3.0: texts 1, 4; of 5.0: text 3
    stays = [(1 - 0.9 * 0.5) / 1, (1 - 0.8 * 0.6) / (1 - 0.6 * 0.6), 0.5]
    assert law.expected == pytest.approx(2 * stays[0] + 2 * stays[1] + stays[2])
    wanted = sum(n * n * p * (1 - p) for n, p in zip([2, 2, 1], stays, strict=True))
    assert law.variance == pytest.approx(wanted)


def test_texts_with_a_coin_each() -> None:
    law = SubsetLaw.of({"semantics": "metaclip2", "group": "url"})
    law.add(np.array([0.1, 0.3]), np.array([0.2, 0.3]), np.array([2.0, 2.0]))
    law.finish()
    assert (law.expected, law.variance) == (pytest.approx(1.5), pytest.approx(0.25))
