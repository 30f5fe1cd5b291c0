from clipcurate.training.speed import Speed, Speedometer


def test_speed_is_what_was_done_since_it_was_last_told() -> None:
    """By hand: a device of 100 FLOP/s that did 40 and 60 in 4 seconds, then 50 in 1."""
    speedometer = Speedometer(8, peak=100.0, now=10.0)
    speedometer.add(40)
    speedometer.add(60)
    assert speedometer.tell(14.0) == Speed(pairs_per_second=4.0, mfu=0.25)
    speedometer.add(50)
    speedometer.leave_out(20.0)
    assert speedometer.tell(35.0) == Speed(pairs_per_second=8.0, mfu=0.5)


def test_an_unknown_peak_gives_no_utilization() -> None:
    speedometer = Speedometer(8, peak=None, now=0.0)
    speedometer.add(50)
    assert speedometer.tell(2.0) == Speed(4.0, 0.0)
