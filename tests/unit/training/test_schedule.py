import pytest

from clipcurate.errors import InvalidInputError
from clipcurate.training.schedule import Stage, stages


def test_a_schedule_is_one_t_or_t_by_step() -> None:
    assert stages("") == stages(" ") == ()
    assert stages("20000") == (Stage(0, 20_000.0),)
    assert stages("0:2e4, 1000:50000") == (Stage(0, 20_000.0), Stage(1_000, 50_000.0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("much", "'0:much' is no STEP:T"),
        ("0:1,5", "'5' is no STEP:T"),
        ("1.5:3", "is no STEP:T"),
        ("0:1,,3:4", "'' is no STEP:T"),
        ("10:3", "steps begin at 0 and rise"),
        ("0:3,5:4,5:6", "steps begin at 0 and rise"),
        ("0", "t = 0 is not positive"),
        ("0:inf", "t = inf is not positive and finite"),
        ("nan", "t = nan is not positive and finite"),
    ],
)
def test_what_is_no_schedule_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        stages(text)
