"""The dashboard's last rows: training, and the machinery under it all."""

from collections.abc import Callable

from observability.panels import Look, Panel, Query, bars, lines
from observability.queries import JOBS, method, quantile, rate, service, short

OURS = 'method=~"/clipcurate.+"'
WATCHING = 'method=~"/clipcurate.+", method!~".+/Watch.+"'
"""Calls that end when their work is done; watching lasts as long as somebody watches."""


def training() -> list[Panel]:
    """Make the row of trainings that run; each goes by its own id."""
    return [
        lines(
            "Loss",
            "Contrastive loss of the last step. A random model has ln(batch size).",
            [_of_trainings("loss")],
            Look(12, empty="nothing is trained"),
            low=None,
        ),
        lines(
            "Pairs per second",
            "Image-text pairs that the model was trained on.",
            [_of_trainings("pairs_per_second")],
            Look(6, empty="nothing is trained"),
        ),
        lines(
            "Share of the device's peak (MFU)",
            "Operations of the model over what the device can do; nothing where that is not known, "
            "as for a CPU.",
            [_of_trainings("mfu_ratio", " > 0")],
            Look(6, unit="percentunit", empty="not known"),
        ),
        bars(
            "Steps taken",
            "Of those that the training has in all.",
            [_share_of_steps()],
            Look(6, 6, "percentunit", 1, empty="nothing is trained"),
            full=1,
        ),
        lines(
            "Learning rate",
            "Warm-up, then cosine to zero.",
            [_of_trainings("learning_rate")],
            Look(6, 6, "sci", empty="nothing is trained"),
        ),
        lines(
            "Logit scale",
            "Inverse temperature; clamped at 100. At the clamp for long: the model is sure of "
            "itself, or the batch is small.",
            [_of_trainings("logit_scale")],
            Look(6, 6, empty="nothing is trained"),
        ),
        lines(
            "Evaluation",
            "The latest evaluation: each set by its own metric or recall at rank 1; "
            "train_retrieval is recall among the training's own images.",
            [Query(_evaluations(), "{{training}} {{dataset}} {{metric}}")],
            Look(6, 6, "percentunit", empty="nothing is evaluated"),
        ),
    ]


def _of_trainings(name: str, only: str = "") -> Query:
    return Query(short(f"max by (training) (clipcurate_training_{name}){only}", "training"))


def _share_of_steps() -> Query:
    step, steps = (f"max by (training) (clipcurate_training_{name})" for name in ("step", "steps"))
    return Query(short(f"{step} / ({steps} > 0)", "training"), "{{training}}")


def _evaluations() -> str:
    metric = 'clipcurate_training_evaluation_ratio{metric=~"value|.+/r@1"}'
    return short(f"max by (training, dataset, metric) ({metric})", "training")


def machinery() -> list[Panel]:
    """Make the row for when something is wrong: calls, errors, times, leases, CPU, memory."""
    calls, seconds = "clipcurate_grpc_calls_total", "clipcurate_grpc_call_seconds"
    failed = f'{OURS}, code!="OK"'
    return [
        lines(
            "gRPC calls per second",
            "By method, probes left out.",
            [Query(method(rate(calls, "method", OURS)), "{{method}}")],
            Look(12, unit="reqps"),
        ),
        lines(
            "gRPC calls that failed",
            "By method and status. Refusals are part of the protocol (FAILED_PRECONDITION: a "
            "lease was lost); UNAVAILABLE and INTERNAL are not.",
            [Query(method(f"{rate(calls, 'method, code', failed)} > 0"), "{{method}} {{code}}")],
            Look(12, unit="reqps", empty="none failed"),
        ),
        lines(
            "gRPC call time, 99 %",
            "By method; calls that watch are left out, they last as long as somebody watches.",
            [Query(method(quantile(0.99, seconds, "method", WATCHING)), "{{method}}")],
            Look(12, unit="s"),
        ),
        lines(
            "Lost leases and failed tasks per minute",
            "Expired: a worker was gone or too slow, and its task was handed to another. Failed: "
            "the task ended with an error; it is tried again.",
            [
                Query(_per_minute("clipcurate_counter_leases_expired_total"), "expired {{stage}}"),
                Query(
                    _per_minute("clipcurate_worker_tasks_total", 'outcome="failed"'),
                    "failed {{stage}}",
                ),
            ],
            Look(12, empty="none"),
        ),
        lines(
            "CPU cores in use",
            "Of all processes of a service together; trainings are processes of their own.",
            [Query(service(rate("process_cpu_seconds_total", "job", JOBS)), "{{job}}")],
            Look(12),
            stacked=True,
        ),
        lines(
            "Memory",
            "Resident, of the largest process of each service; its limit is per process.",
            [Query(service(f"max by (job) (process_resident_memory_bytes{{{JOBS}}})"), "{{job}}")],
            Look(12, unit="bytes"),
        ),
    ]


def _per_minute(metric: str, where: str = "") -> str:
    return f"{rate(metric, 'stage', where)} * 60"


ROWS: tuple[tuple[str, Callable[[], list[Panel]]], ...] = (
    ("How does training go?", training),
    ("The machinery", machinery),
)
