"""What the dashboard says about runs, from top to bottom: from health to a dataset."""

from collections.abc import Callable

from observability.panels import Column, Look, Panel, Query, Steps, bars, lines, number, rows
from observability.queries import JOBS, figure, quantile, rate, service, short

BAD_FROM_ONE: Steps = ((None, "green"), (1, "red"))
STATES = {
    "done": "green",
    "leased": "blue",
    "ready": "light-blue",
    "waiting": "#808080",
    "quarantined": "orange",
    "blocked": "red",
}
STAGES = (
    *("keys", "dedup", "match", "freeze", "seal", "score"),
    *("gather", "settle", "plan", "write", "publish", "train"),
)
"""In the order in which a run comes to them; those that it lacks show nothing."""
AFTER_MATCHING = "freeze|seal|score|gather|settle|plan|write|publish"
OUTCOMES = {
    "kept": "green",
    "dropped": "blue",
    "not_chosen": "light-blue",
    "matched": "light-green",
    "unmatched": "#808080",
    "duplicate": "purple",
    "filtered": "yellow",
    "rejected": "red",
}
EPSILON = 0.01
"""Default of a run's `--epsilon`; runs may have another one."""


def healthy() -> list[Panel]:
    """Make the top row: one look says whether to read on."""
    on_off = {"1": ("answers", "green"), "0": ("down", "red")}
    return [
        number(
            "Redis",
            "Whether a counter reaches Redis. Nothing moves without it, and nothing is lost.",
            [Query("max(clipcurate_redis_up)")],
            Look(4, 4, empty="no counter"),
            words=on_off,
        ),
        number(
            "Processes",
            "Processes of each service that Prometheus reaches.",
            [Query(service(f"sum by (job) (up{{{JOBS}}})"), "{{job}}")],
            Look(8, 4),
            ((None, "red"), (1, "green")),
        ),
        number(
            "Blocked tasks",
            "Tasks that failed too often and wait for an operator: `clipcurate watch RUN` names "
            "the cause, `clipcurate retry RUN` puts them back to work.",
            [Query(figure("clipcurate_tasks", where=_state("blocked")))],
            Look(4, 4, empty="no run"),
            BAD_FROM_ONE,
        ),
        number(
            "Quiet for",
            "Longest time for which a run has open tasks and has finished none. Minutes are "
            "normal (a task is about a million rows), hours are not, but for training.",
            [Query('max(clipcurate_run_lag_seconds{run=~"$run"})')],
            Look(4, 4, "s", 0, empty="no run"),
            ((None, "green"), (600, "orange"), (1800, "red")),
        ),
        number(
            "Firing alerts",
            "Alerts of this system that fire now; docs/operations/runbooks.md says what to do.",
            [Query('count(ALERTS{alertname=~"Clipcurate.+", alertstate="firing"}) or vector(0)')],
            Look(4, 4),
            BAD_FROM_ONE,
        ),
    ]


def progress() -> list[Panel]:
    """Make the row that says how far runs are."""
    read, planned = figure("clipcurate_pairs", "run"), figure("clipcurate_run_pairs_planned", "run")
    speed = 'max by (run) (deriv(clipcurate_pairs{run=~"$run"}[5m]))'
    left = f"({planned} - {read}) / ({speed} > 0)"
    return [
        bars(
            "Pairs read of those planned",
            "How much of its pool each run has matched.",
            [Query(short(f"{read} / {planned}"), "{{run}}")],
            Look(8, 8, "percentunit", 1, empty="no run"),
            full=1,
        ),
        number(
            "Matching ends in",
            "Pairs left to read, at the speed of the last five minutes. Nothing when matching is "
            "over, or stands still.",
            [Query(short(f"{left} > 0"), "{{run}}")],
            Look(4, 8, "s", 0, empty="n/a"),
        ),
        bars(
            "Stages",
            "Share of each stage's tasks that are done, in the order in which a run comes to them.",
            [Query(_done_share(stage), stage) for stage in STAGES],
            Look(12, 8, "percentunit", 0, empty="no run"),
            full=1,
        ),
        lines(
            "Tasks by state",
            "All tasks of the chosen runs that are planned so far; later stages are planned when "
            "earlier ones end. Green grows until everything is green; red waits for an operator.",
            [Query(_in_state(state), state) for state in STATES],
            Look(24, 9),
            stacked=True,
            colours=STATES,
        ),
    ]


def _in_state(state: str) -> str:
    """Leave out what is not there: a red line at the top, for no blocked task, would alarm."""
    return f"{figure('clipcurate_tasks', where=_state(state))} > 0"


def _state(state: str) -> str:
    return f'state="{state}"'


def _done_share(stage: str) -> str:
    done = figure("clipcurate_tasks", where=f'stage="{stage}", state="done"')
    every = figure("clipcurate_tasks", where=f'stage="{stage}"')
    return f"{done} / ({every} > 0)"


def matching() -> list[Panel]:
    """Make the row that says how fast texts are matched."""
    texts = rate("clipcurate_matcher_texts_total", "instance")
    hits = "sum(rate(clipcurate_matcher_hits_total[$__rate_interval]))"
    every = "sum(rate(clipcurate_matcher_texts_total[$__rate_interval]))"
    return [
        lines(
            "Texts matched per second",
            "By matcher, stacked: the upper edge is the speed of all. A matcher uses one core.",
            [Query(texts, "{{instance}}")],
            Look(12, unit="short"),
            stacked=True,
        ),
        lines(
            "Hits per text",
            "Entries found in a text on average. A jump means another kind of text, or other "
            "metadata. English web texts have about 3.5 with MetaCLIP's metadata.",
            [Query(f"{hits} / ({every} > 0)", "hits per text")],
            Look(6, decimals=1),
        ),
        lines(
            "Busy workers",
            "Share of the processes with a task in hand. Less than all while tasks are ready: look "
            "at leases and errors below.",
            [Query(service("avg by (job) (clipcurate_worker_busy > bool 0)"), "{{job}}")],
            Look(6, unit="percentunit"),
        ),
    ]


def counting() -> list[Panel]:
    """Make the row that says whether the counter keeps up."""
    flush = "clipcurate_counter_flush_seconds"
    return [
        lines(
            "Counts added per second",
            "Additions to entries' counts that Redis has acknowledged as durable.",
            [Query("sum(rate(clipcurate_counter_increments_total[$__rate_interval]))", "entries")],
            Look(12),
        ),
        lines(
            "Time of a durable write",
            "From sending counts to Redis until they are acknowledged, its disk included.",
            [Query(quantile(0.5, flush), "median"), Query(quantile(0.99, flush), "99 %")],
            Look(12, unit="s"),
        ),
    ]


def stability() -> list[Panel]:
    """Make the row that says whether more pairs would still change the counts' verdict."""
    return [
        lines(
            "Drift of the counts",
            "Upper bound on the share of pairs whose fate changed in the last window. Counts have "
            "converged when it was below epsilon for several windows in a row; the dashed line "
            f"is the default epsilon, {EPSILON:.0%}.",
            [Query(short(figure("clipcurate_run_drift_ratio", "run")), "{{run}}")],
            Look(12, unit="percentunit", empty="no window has ended yet"),
            logarithmic=True,
            limit=EPSILON,
        ),
        rows(
            "Counts of each run",
            "Windows: how many in a row were below the run's own epsilon. Frozen: of what share "
            "of the pool's pairs the counts are that datasets are made by.",
            "run",
            [
                Column("pairs", short(figure("clipcurate_run_pairs_announced", "run"))),
                Column("windows", short(figure("clipcurate_run_windows_below_epsilon", "run"))),
                Column(
                    "stable",
                    short(figure("clipcurate_run_converged", "run")),
                    words={"0": "not yet", "1": "yes"},
                ),
                Column(
                    "frozen", short(figure("clipcurate_run_frozen_ratio", "run")), "percentunit"
                ),
            ],
            Look(12, empty="not yet"),
        ),
    ]


def outcomes() -> list[Panel]:
    """Make the row that says what became of the pairs."""
    return [
        bars(
            "What became of the pairs",
            "Pairs by outcome; every pair ends in exactly one. Of those matched, what is kept, "
            "dropped or not chosen is known as soon as a dataset is planned.",
            [
                Query(figure("clipcurate_run_pairs_outcome", where=f'outcome="{name}"'), name)
                for name in OUTCOMES
            ],
            Look(12, empty="no run"),
            colours=OUTCOMES,
        ),
        lines(
            "Rejected pairs by reason",
            "Rows without a usable text, and records that could not be read. The manifest of a "
            "dataset lists the same.",
            [Query(figure("clipcurate_run_rejected_pairs", "reason"), "{{reason}}")],
            Look(12, empty="none rejected"),
        ),
    ]


def sampling() -> list[Panel]:
    """Make the row that says how the dataset is written."""
    later = f'stage=~"{AFTER_MATCHING}"'
    return [
        lines(
            "Sampling: tasks done",
            "Freezing counts, scoring pairs, planning and writing parts, publishing. A dataset "
            "exists when publish is done.",
            [
                Query(
                    figure("clipcurate_tasks", "stage", f'state="done", {later}'),
                    "{{stage}}",
                )
            ],
            Look(12, decimals=0, empty="nothing is sampled yet"),
        ),
        lines(
            "Time of a task",
            "99 % of a stage's tasks took no longer. Leases are renewed meanwhile; long tasks are "
            "no fault, but make evictions expensive.",
            [Query(quantile(0.99, "clipcurate_worker_task_seconds", "stage"), "{{stage}}")],
            Look(12, unit="s"),
        ),
    ]


ROWS: tuple[tuple[str, Callable[[], list[Panel]]], ...] = (
    ("Is the system healthy?", healthy),
    ("How far are the runs?", progress),
    ("How fast are texts matched?", matching),
    ("Does the counter keep up?", counting),
    ("Have the counts stabilised?", stability),
    ("What became of the pairs?", outcomes),
    ("Is the dataset being written?", sampling),
)
