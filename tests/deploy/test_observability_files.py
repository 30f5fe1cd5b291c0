"""Dashboard, alert rules and runbooks: they agree with each other and with what services show."""

import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path

import pytest
import typer.main
import yaml

from clipcurate.cli.app import app
from clipcurate.rpc.v1.ledger_pb2 import Stage
from observability import depths, story
from observability.__main__ import main
from tests.conftest import ROOT
from tests.deploy.compose import SERVICES
from tests.deploy.observed import (
    CATALOGUE,
    MONITORING,
    RUNBOOKS,
    dashboard,
    filled,
    metrics_in,
    panels,
    rules,
    targets,
)

ALERT_TESTS = ROOT / "tests" / "deploy" / "alerts.test.yaml"
LAYER = yaml.safe_load((ROOT / "docker-compose.observability.yml").read_text())
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(not PROMTOOL, reason="no promtool (Debian's prometheus)")


def promtool(*words: str | Path) -> None:
    done = subprocess.run([str(PROMTOOL), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_made_is_up_to_date(tmp_path: Path) -> None:
    main([str(tmp_path)])
    for made in tmp_path.iterdir():
        assert made.read_text() == (MONITORING / made.name).read_text(), "python -m observability"


def test_the_operator_gets_the_same_rules() -> None:
    made = yaml.safe_load((MONITORING / "prometheus-rule.yaml").read_text())
    assert made["kind"] == "PrometheusRule"
    assert made["spec"] == yaml.safe_load((MONITORING / "alerts.yaml").read_text())


@needs_promtool
def test_alerts_fire_when_they_must_and_only_then() -> None:
    promtool("check", "rules", MONITORING / "alerts.yaml")
    promtool("test", "rules", ALERT_TESTS)


def test_every_alert_has_a_story_in_which_it_fires_and_one_in_which_nothing_does() -> None:
    stories = yaml.safe_load(ALERT_TESTS.read_text())["tests"]
    firing = {
        name
        for story in stories
        for test in story["promql_expr_test"]
        for sample in test["exp_samples"]
        for name in re.findall(r'alertname="(\w+)"', sample["labels"])
    }
    assert firing == {rule["alert"] for rule in rules()}
    quiet = [
        story for story in stories if not any(t["exp_samples"] for t in story["promql_expr_test"])
    ]
    shown = {re.split("[{]", one["series"])[0] for story in quiet for one in story["input_series"]}
    for rule in rules():
        assert metrics_in(rule["expr"]) <= shown, f"{rule['alert']} is not seen to stay quiet"


@needs_promtool
def test_every_expression_is_promql(tmp_path: Path) -> None:
    found = [{"record": f"a:{n}", "expr": filled(t["expr"])} for n, (_, t) in enumerate(targets())]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": found}]}))
    promtool("check", "rules", file)


def test_only_metrics_that_exist_are_asked_for() -> None:
    known = set(re.findall(r"clipcurate_[a-z_]+", CATALOGUE.read_text()))
    known |= {"up", "ALERTS", "process_cpu_seconds_total", "process_resident_memory_bytes"}
    asked = [target["expr"] for _, target in targets()] + [rule["expr"] for rule in rules()]
    for expression in asked:
        names = {re.sub("_bucket$", "", name) for name in metrics_in(expression)}
        assert names, expression
        assert names <= known, names - known


def test_figures_of_runs_are_not_added_up_over_counters() -> None:
    """Every counter shows what Redis holds, so two counters show it twice."""
    own = re.compile(r"clipcurate_(tasks|pairs|hits|run_\w+)\b")
    expressions = [target["expr"] for _, target in targets()] + [rule["expr"] for rule in rules()]
    for expression in expressions:
        for found in own.finditer(expression):
            before = expression[: found.start()]
            assert re.search(r"max( by \([a-z_, ]+\))? \((deriv\()?$|max\($", before), expression


def test_every_panel_says_what_it_shows() -> None:
    shown = panels()
    assert len(shown) < 40
    assert len({panel["title"] for panel in shown}) == len(shown)
    numbers = [panel["id"] for panel in dashboard()["panels"]]
    assert len(set(numbers)) == len(numbers)
    for panel in shown:
        assert len(panel["description"]) > 20, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["fieldConfig"]["defaults"]["noValue"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_panels_fill_the_grid_and_do_not_overlap() -> None:
    places = [panel["gridPos"] for panel in dashboard()["panels"]]
    cells = [
        {(x, y) for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])}
        for p in places
    ]
    assert all(not one & other for one, other in combinations(cells, 2))
    bottom = max(place["y"] + place["h"] for place in places)
    assert set.union(*cells) == {(x, y) for x in range(24) for y in range(bottom)}


def test_every_stage_and_outcome_has_its_place() -> None:
    stages = {Stage.Name(number).removeprefix("STAGE_").lower() for number in Stage.values()}
    assert set(story.STAGES) == stages - {"unspecified"}
    later = set(re.split(r"[|]", story.AFTER_MATCHING))
    assert later == set(story.STAGES) - {"keys", "dedup", "match", "train"}


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    headings = re.findall(r"^## (\w+)$", RUNBOOKS.read_text(), re.MULTILINE)
    assert headings == [rule["alert"] for rule in rules()]
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert ROOT / path == RUNBOOKS
        assert anchor == rule["alert"].lower()


def test_runbooks_name_commands_that_exist() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    text = RUNBOOKS.read_text().replace("\n  ", " ")
    found = re.findall(r"(?:`|^)clipcurate ([a-z-]+)([^`\n]*)", text, re.MULTILINE)
    assert len(found) > 8
    for verb, rest in found:
        options = {option for param in commands[verb].params for option in param.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= options, (verb, rest)


def test_the_layer_listens_on_loopback_and_has_no_rights_that_it_does_not_need() -> None:
    for service in LAYER["services"].values():
        assert all(port.startswith("127.0.0.1:${") for port in service["ports"])
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert int(service["user"].partition(":")[0]) > 0
        assert service["deploy"]["resources"]["limits"]["memory"]
        assert service["healthcheck"]["test"]
    assert LAYER["services"]["grafana"]["environment"]["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


def test_what_the_layer_mounts_and_names_exists() -> None:
    settings = dict(
        line.split("=", 1)
        for line in (ROOT / ".env").read_text().splitlines()
        if line and not line.startswith("#")
    )
    for name, service in LAYER["services"].items():
        assert set(re.findall(r"\$\{(\w+)\}", str(service))) <= set(settings)
        image, _, tag = settings[f"{name.upper()}_IMAGE"].rpartition(":")
        assert image, tag != "latest"
        mounts = [mount.split(":")[0] for mount in service["volumes"] if mount.startswith("./")]
        assert all((ROOT / mount).is_file() for mount in mounts)


def test_prometheus_asks_every_service_by_dns() -> None:
    jobs = yaml.safe_load((ROOT / "observability" / "prometheus.yml").read_text())["scrape_configs"]
    assert [job["job_name"] for job in jobs] == [f"clipcurate-{name}" for name in SERVICES]
    assert [job["dns_sd_configs"][0]["names"] for job in jobs] == [[name] for name in SERVICES]


def test_depths_end_the_dashboard() -> None:
    headings = [panel["title"] for panel in dashboard()["panels"] if panel["type"] == "row"]
    assert headings == [title for title, _ in (*story.ROWS, *depths.ROWS)]
