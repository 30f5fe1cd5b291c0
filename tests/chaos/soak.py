"""Many runs under many faults; a table of what happened.

    python -m tests.chaos.soak --runs 20 --faults 110 --seed 1

Every run's datasets must have the bytes that an undisturbed run gives. Exits with 1 on any
difference, and where the system does not come back by itself.
"""

import argparse
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from random import Random

import redis

from clipcurate.errors import ClipcurateError
from tests.chaos.faults import kinds
from tests.chaos.pool import VARIANTS
from tests.chaos.scene import Fault, Recovery
from tests.chaos.trial import Trial, trial


def shuffled(rng: Random, kinds: Sequence[Fault], number: int) -> list[Fault]:
    """Return so many faults in random order, each kind as often as any other, give or take one."""
    rounds = -(-number // len(kinds))
    return [fault for _ in range(rounds) for fault in rng.sample(kinds, len(kinds))][:number]


def table(recoveries: Sequence[Recovery]) -> str:
    """Return kinds of faults with their number and the seconds to recover."""
    found = defaultdict(list)
    for recovery in recoveries:
        found[recovery.fault].append(recovery.seconds)
    lines = ["| fault | times | recovered | median s | max s |", "|---|---|---|---|---|"]
    for name, all_seconds in sorted(found.items()):
        seconds = [value for value in all_seconds if value is not None]
        figures = [str(len(all_seconds)), str(len(seconds))]
        figures += [f"{statistics.median(seconds):.1f}", f"{max(seconds):.1f}"] if seconds else []
        lines.append(f"| {name} | {' | '.join(figures)} |")
    return "\n".join(lines)


def soak(found: Trial, rng: Random, args: argparse.Namespace) -> int:
    """Run until there were enough runs and faults; return how many runs went wrong."""
    chosen = [fault for fault in kinds(found.system) if args.only in fault.name]
    queue = shuffled(rng, chosen, 10 * args.faults)
    each, runs, failed = -(-args.faults // args.runs), 0, 0
    while queue and (runs < args.runs or len(found.recoveries) < args.faults):
        now, queue = queue[:each], queue[each:]
        runs += 1
        variant = VARIANTS[runs % len(VARIANTS)]
        print(f"run {runs} ({variant.name})", flush=True)
        start = time.monotonic()
        try:
            found.disturbed(rng, variant, now)
        except (AssertionError, ClipcurateError, redis.RedisError) as error:
            failed += 1
            print(f"  WRONG: {error}", flush=True)
        else:
            print(f"  same bytes, {time.monotonic() - start:.1f} s", flush=True)
    print(f"{runs} runs, {len(found.recoveries)} faults, {failed} runs wrong")
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="at least so many runs")
    parser.add_argument("--faults", type=int, default=110, help="at least so many faults")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of every choice")
    parser.add_argument("--rows", type=int, default=10_000, help="pairs in the pool")
    parser.add_argument("--only", default="", help="kinds of faults whose name contains this")
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    with trial(args.rows) as found:
        failed = soak(found, Random(args.seed), args)
    print(table(found.recoveries))
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
