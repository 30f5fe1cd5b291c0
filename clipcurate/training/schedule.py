"""A threshold t that changes with the step, written as "20000" or "0:20000,1000:50000"."""

import itertools
import math
from dataclasses import dataclass

from clipcurate.errors import InvalidInputError


@dataclass(frozen=True)
class Stage:
    """From step `first_step` (counted from 0) on, t is `t`, until the next stage begins."""

    first_step: int
    t: float


def stages(text: str) -> tuple[Stage, ...]:
    """Return the stages that a schedule names, in order; none for "".

    Raises:
        InvalidInputError: it is no schedule, does not begin at step 0, or its steps do not rise.
    """
    written = text if ":" in text or not text.strip() else f"0:{text}"
    found = tuple(_stage(part.strip(), text) for part in written.split(",") if written.strip())
    steps = [stage.first_step for stage in found]
    if found and (steps[0] != 0 or any(b <= a for a, b in itertools.pairwise(steps))):
        raise InvalidInputError(f"t schedule {text!r}: steps begin at 0 and rise")
    return found


def _stage(part: str, text: str) -> Stage:
    step, _, t = part.partition(":")
    try:
        stage = Stage(int(step), float(t))
    except ValueError as error:
        raise InvalidInputError(
            f"t schedule {text!r}: {part!r} is no STEP:T; write it like 0:20000,1000:50000"
        ) from error
    if not 0 < stage.t < math.inf:
        raise InvalidInputError(f"t schedule {text!r}: t = {stage.t:g} is not positive and finite")
    return stage
