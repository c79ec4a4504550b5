"""Alert rules, scrape configuration and dashboard, as Prometheus' own tool and this code see them."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from paluku.serving.config import ServingConfig
from paluku.serving.gate import Gate
from paluku.serving.metrics import FAULTS, REFUSALS
from tests.fakes.world import World, running
from tests.unit.serving.test_metrics import everything, names

ROOT = Path(__file__).parents[3]
MONITORING = ROOT / "deploy" / "monitoring"
ALERTS = MONITORING / "alerts.yml"
DASHBOARD = MONITORING / "grafana" / "paluku.json"
ROWS = ["Users and seats", "Latency", "Frames", "Stages", "Faults", "Machines"]
# Of Prometheus itself.
ITS_OWN = {"up", "ALERTS"}


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not here; apt-get install prometheus")
    return found


@pytest.fixture(scope="module")
def exposed() -> set[str]:
    """Every series a server may expose, a histogram by its parts."""

    async def scrape() -> str:
        world = World()
        async with running(world):
            return await everything(world, Gate(ServingConfig(), world.clock, {}))

    text = asyncio.run(scrape())
    families = names(text)
    samples = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")}
    return {sample for sample in samples if any(sample.startswith(family) for family in families)}


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return group["rules"]


def checked(promtool: str, *words: str) -> None:
    done = subprocess.run([promtool, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_takes_the_rules_and_the_scrape_configuration(promtool: str) -> None:
    checked(promtool, "check", "rules", str(ALERTS))
    checked(promtool, "check", "config", str(MONITORING / "prometheus.yml"))


def test_each_alert_fires_when_it_should_and_not_when_all_is_well(promtool: str) -> None:
    checked(promtool, "test", "rules", str(MONITORING / "alerts_test.yml"))
    cases = yaml.safe_load((MONITORING / "alerts_test.yml").read_text(encoding="utf-8"))["tests"]
    tests = [test for case in cases for test in case["alert_rule_test"]]
    every = {rule["alert"] for rule in rules()}
    assert {test["alertname"] for test in tests if test["exp_alerts"]} == every
    assert {test["alertname"] for test in tests if not test["exp_alerts"]} == every


def anchors(page: str) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_each_alert_says_how_bad_it_is_in_plain_words_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    told = rule["annotations"]
    assert 3 <= len(told["summary"].split()) <= 20
    assert told["description"].endswith(".")
    page, _, anchor = told["runbook_url"].partition("#")
    assert anchor == rule["alert"].lower()
    text = (ROOT / page).read_text(encoding="utf-8")
    assert anchor in anchors(text)
    section = text.partition(f"### {rule['alert']}\n")[2].partition("\n##")[0]
    assert len(section.split()) >= 10
    assert f"({rule['labels']['severity']})" in section


def test_the_runbook_has_no_section_of_an_alert_that_is_not() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert re.findall(r"^### (Paluku\w+)$", page, re.MULTILINE) == [rule["alert"] for rule in rules()]


def series(expression: str) -> set[str]:
    """The names in an expression: not functions, labels or their values, nor words of the language."""
    bare = re.sub(r'\{[^}]*\}|"[^"]*"|\[[^\]]*\]|\b(by|on|without)\s*\([^)]*\)', " ", expression)
    words = set(re.findall(r"[A-Za-z_:][\w:]*(?!\w|\s*\()", bare))
    return words - {"or", "and", "unless", "by", "on"}


def test_the_alerts_name_only_series_that_exist(exposed: set[str]) -> None:
    named = set().union(*(series(rule["expr"]) for rule in rules()))
    assert len(named) > 10
    assert named - exposed - ITS_OWN == set()


def test_the_alerts_name_only_label_values_that_exist() -> None:
    text = ALERTS.read_text(encoding="utf-8")
    reasons = {value for group in re.findall(r'reason=~"([\w|]+)"', text) for value in group.split("|")}
    assert reasons == set(REFUSALS)
    protocol = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    assert [code for code in FAULTS if f"`{code}`" not in protocol] == []


def panels() -> list[dict[str, Any]]:
    return json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]


def expressions() -> Iterator[str]:
    for panel in panels():
        yield from (target["expr"] for target in panel.get("targets", []))


def filled(expression: str) -> str:
    """As Grafana sends it."""
    return expression.replace("$__rate_interval", "1m").replace("$job", ".+")


def test_the_dashboards_expressions_are_promql(promtool: str, tmp_path: Path) -> None:
    """Each is a rule of its own."""
    texts = [filled(text) for text in expressions()]
    assert not [text for text in texts if "$" in text]
    recorded = [{"record": f"expression:{number}", "expr": text} for number, text in enumerate(texts)]
    path = tmp_path / "dashboard.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}), encoding="utf-8")
    checked(promtool, "check", "rules", str(path))


def test_the_dashboard_shows_every_series_and_no_other(exposed: set[str]) -> None:
    named = set().union(*(series(text) for text in expressions())) - ITS_OWN
    assert named - exposed == set()
    families = {re.sub("_(bucket|sum|count)$", "", name) for name in exposed}
    assert families - {re.sub("_bucket$", "", name) for name in named} == set()


def test_the_dashboard_is_whole() -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    assert dashboard["schemaVersion"] == 39
    datasource, job = dashboard["templating"]["list"]
    assert (datasource["name"], datasource["type"]) == ("datasource", "datasource")
    assert job["datasource"]["uid"] == "${datasource}"
    rows = [panel["title"] for panel in panels() if panel["type"] == "row"]
    assert rows == ROWS
    shown = [panel for panel in panels() if panel["type"] != "row"]
    for panel in shown:
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
        assert len(panel["description"]) > 8, panel["title"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
    identities = [panel["id"] for panel in panels()]
    assert len(set(identities)) == len(identities)


def test_no_two_panels_of_the_dashboard_overlap() -> None:
    places = [panel["gridPos"] for panel in panels()]
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert max(x for x, _ in cells) < 24
    assert len(set(cells)) == len(cells)
