"""Writes what is made from something else in k8s/components/monitoring.

python -m observability [FOLDER]     the dashboard, and alerts.yaml for the operator
"""

import sys
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from observability import depths, story
from observability.panels import SOURCE

MONITORING = Path(__file__).parents[1] / "k8s" / "components" / "monitoring"
ABOUT = "A run from top to bottom: health, progress, matching, counts, datasets, training."


def dashboard_text() -> str:
    """Return the dashboard as Grafana reads it."""
    made = dashboard.Dashboard("clipcurate").uid("clipcurate").description(ABOUT)
    made.tags(["clipcurate"]).refresh("10s").time("now-1h", "now").timezone("browser").editable()
    made.tooltip(models.DashboardCursorSync.CROSSHAIR)
    made.with_variable(dashboard.DatasourceVariable("datasource").label("Data").type("prometheus"))
    made.with_variable(_runs()).annotation(_alerts())
    for title, panels in (*story.ROWS, *depths.ROWS):
        made.with_row(dashboard.Row(title))
        for panel in panels():
            made.with_panel(panel)
    found = made.build()
    for number, placed in enumerate(found.panels or [], start=1):
        placed.id_val = number
    text: str = JSONEncoder(indent=1, sort_keys=True, ensure_ascii=False).encode(found)
    return text + "\n"


def rules_text() -> str:
    """Return the alert rules as the Prometheus operator reads them."""
    rules = (MONITORING / "alerts.yaml").read_text().splitlines()
    head = (
        "# Made from alerts.yaml by `python -m observability`.",
        "apiVersion: monitoring.coreos.com/v1",
        "kind: PrometheusRule",
        "metadata:",
        "  name: clipcurate",
        "spec:",
    )
    body = (f"  {line}" for line in rules if line.strip() and not line.startswith("#"))
    return "\n".join((*head, *body)) + "\n"


def _runs() -> dashboard.QueryVariable:
    """Make the list of runs that had figures in the chosen time; all, unless some are chosen."""
    runs = dashboard.QueryVariable("run").label("Run").datasource(SOURCE).multi(True)
    runs.query({"query": "label_values(clipcurate_pairs, run)", "refId": "runs"})
    runs.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
    every = models.VariableOption(selected=True, text="All", value="$__all")
    return runs.include_all(True).all_value(".*").current(every)


def _alerts() -> dashboard.AnnotationQuery:
    """Mark in all panels when an alert fires."""
    firing = dashboard.AnnotationQuery().name("Alerts").datasource(SOURCE).enable(True)
    firing.icon_color("red").hide(False)
    return firing.expr('ALERTS{alertname=~"Clipcurate.+", alertstate="firing"}')


def main(words: list[str]) -> None:
    """Write both files."""
    folder = Path(words[0]) if words else MONITORING
    (folder / "dashboard.json").write_text(dashboard_text())
    (folder / "prometheus-rule.yaml").write_text(rules_text())


if __name__ == "__main__":
    main(sys.argv[1:])
