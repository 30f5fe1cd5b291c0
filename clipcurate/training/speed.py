"""How fast a training is: pairs per second, and model FLOPs utilization."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Speed:
    """The speed between two moments; `mfu` is 0 where the device's peak is not known."""

    pairs_per_second: float
    mfu: float


class Speedometer:
    """Adds up what steps do, and tells the speed since it last told."""

    def __init__(self, batch_size: int, peak: float | None, now: float) -> None:
        """Begin at `now` (seconds).

        Args:
            batch_size: pairs per step, of all ranks.
            peak: FLOP/s of this rank's device by its data sheet; None: not known.
            now: seconds of some clock.
        """
        self._batch_size, self._peak = batch_size, peak
        self._steps, self._flops, self._since = 0, 0, now

    def add(self, flops: int) -> None:
        """Take note of a step: `flops` are model FLOPs of this rank's share, as processed."""
        self._steps += 1
        self._flops += flops

    def leave_out(self, seconds: float) -> None:
        """Count the last `seconds` to no step: something else was done."""
        self._since += seconds

    def tell(self, now: float) -> Speed:
        """Return the speed since the last call."""
        seconds = now - self._since
        mfu = self._flops / seconds / self._peak if self._peak else 0.0
        told = Speed(self._steps * self._batch_size / seconds, mfu)
        self._steps, self._flops, self._since = 0, 0, now
        return told
