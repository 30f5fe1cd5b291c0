"""PromQL of the dashboard: what kind of figure a metric is decides how it must be added up."""

RUNS = 'run=~"$run"'
"""The runs chosen at the top of the dashboard."""
JOBS = 'job=~"clipcurate-.+"'
"""The four services, as compose and the ServiceMonitor call them."""
_LABELS = {
    "clipcurate_tasks": "run, stage, state",
    "clipcurate_run_pairs_outcome": "run, outcome",
    "clipcurate_run_rejected_pairs": "run, reason",
}


def figure(metric: str, by: str = "", where: str = "") -> str:
    """Return a figure of the chosen runs.

    Every counter reads the same ones from Redis, so of each the largest counts, once.
    """
    labels = _LABELS.get(metric, "run")
    chosen = f"max by ({labels}) ({metric}{{{_joined(RUNS, where)}}})"
    if by == labels:
        return chosen
    return f"sum by ({by}) ({chosen})" if by else f"sum({chosen})"


def rate(metric: str, by: str, where: str = "") -> str:
    """Return what all processes together do in a second."""
    return f"sum by ({by}) (rate({metric}{{{where}}}[$__rate_interval]))"


def quantile(share: float, metric: str, by: str = "", where: str = "") -> str:
    """Return a quantile of a histogram, over all processes; nothing where nothing happened."""
    buckets = rate(f"{metric}_bucket", _joined("le", by), where)
    return f"histogram_quantile({share}, {buckets}) >= 0"


def short(expression: str, label: str = "run") -> str:
    """Shorten ids to the eight digits that the command line takes."""
    return f'label_replace({expression}, "{label}", "$1", "{label}", "(.{{8}}).*")'


def service(expression: str) -> str:
    """Call jobs by their services: `clipcurate-matcher` is the matcher."""
    return f'label_replace({expression}, "job", "$1", "job", "clipcurate-(.+)")'


def method(expression: str) -> str:
    """Shorten `/clipcurate.v1.Ledger/ClaimTask` to what follows the package."""
    return f'label_replace({expression}, "method", "$1", "method", "/clipcurate.v1.(.+)")'


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)
