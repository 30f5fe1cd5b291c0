"""The dashboard and the alert rules as values, and a real Prometheus that is asked about them."""

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from tests.conftest import ROOT

MONITORING = ROOT / "k8s" / "components" / "monitoring"
RUNBOOKS = ROOT / "docs" / "operations" / "runbooks.md"
CATALOGUE = ROOT / "docs" / "operations" / "metrics.md"
VARIABLES = {"$run": ".*", "$__rate_interval": "20s"}
"""What Grafana puts in the place of its variables: all runs, four scrapes."""

Object = dict[str, Any]


def dashboard() -> Object:
    found: Object = json.loads((MONITORING / "dashboard.json").read_text())
    return found


def panels() -> list[Object]:
    """Return the panels, without the rows' headings."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def targets() -> Iterator[tuple[str, Object]]:
    """Yield every query with its panel's title."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target


def rules() -> list[Object]:
    (group,) = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
    found: list[Object] = group["rules"]
    return found


def filled(expression: str) -> str:
    """Return an expression as Grafana sends it."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert not re.search(r"\$[_a-z]", expression), expression
    return expression


def metrics_in(expression: str) -> set[str]:
    """Return the names of the metrics that an expression asks for."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}', "", expression)
    return set(re.findall(r"\b(?:clipcurate|process|python)_\w+|\b(?:up|ALERTS)\b", bare))


class Prometheus:
    """The HTTP API of a Prometheus."""

    def __init__(self, address: str) -> None:
        self._address = address

    def get(self, path: str, **words: str | float) -> Any:
        """Return the data of an answer; an error is raised."""
        with urlopen(f"http://{self._address}/api/v1/{path}?{urlencode(words)}") as answer:
            return json.load(answer)["data"]

    def over(self, expression: str, start: float, end: float) -> list[Object]:
        """Return an expression's series that have a value in a period."""
        words: Object = {"query": filled(expression), "start": start, "end": end, "step": 5}
        found: list[Object] = self.get("query_range", **words)["result"]
        return found

    def healthy_targets(self) -> dict[str, int]:
        """Return how many processes of each job were scraped without an error."""
        found = self.get("targets", state="active")["activeTargets"]
        up = [target["labels"]["job"] for target in found if target["health"] == "up"]
        return {job: up.count(job) for job in up}
