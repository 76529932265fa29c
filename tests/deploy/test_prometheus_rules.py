"""What Prometheus is given, looked at by promtool: whether it can be read, and whether its tests could fail."""

from __future__ import annotations

import copy
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from auth_service.metrics import Metrics as AuthMetrics
from gateway.metrics import COUNTERS, GAUGES, HISTOGRAMS, Metrics
from tests.support.prometheus import FOLDER, faster, hastened, seconds

RULES: Final = yaml.safe_load((FOLDER / "rules.yml").read_text(encoding="utf-8"))
ALERTS: Final = [it for group in RULES["groups"] for it in group["rules"] if "alert" in it]
TESTS: Final = sorted((FOLDER / "tests").glob("*.yml"))
SELECTOR: Final = re.compile(r"\b([a-z][a-z_:]*)(?:\{([^}]*)\})?(?=[\[\s)]|$)")
MATCHER: Final = re.compile(r'(\w+)(=~|!=|=)"([^"]*)"')
OURS: Final = re.compile(r"(gateway|auth)[_:]")
AT_SCRAPE: Final = {
    "auth_password_hash_queue",
    "auth_signing_key_age_seconds",
    "auth_key_faults",
}  # see auth_service/app
needs = pytest.mark.needs("prometheus")


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run promtool to its end."""
    command = ["promtool", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def failures(folder: Path, rules: Any, tests: Path) -> set[str]:
    """Run one file of tests against other rules; return the alerts whose tests failed."""
    (folder / "rules.yml").write_text(yaml.safe_dump(rules), encoding="utf-8")
    (folder / "tests").mkdir(exist_ok=True)
    (copied := folder / "tests" / tests.name).write_text(tests.read_text(encoding="utf-8"), encoding="utf-8")
    found = promtool("test", "rules", copied)
    assert "parse error" not in found.stderr, found.stderr
    return set(re.findall(r'expr: "ALERTS\{alertname=\\"(\w+)\\"', found.stdout + found.stderr))


def named(tests: Path) -> list[str]:
    """Return the alerts that a file of tests is about."""
    cases = yaml.safe_load(tests.read_text(encoding="utf-8"))["tests"]
    return [it["name"].partition(":")[0] for it in cases]


# --- what is written


@needs
def test_prometheus_takes_configuration_rules_and_targets() -> None:
    """Its own checker finds nothing to complain about."""
    found = promtool("check", "config", "--lint-fatal", FOLDER / "prometheus.yml")
    assert 0 == found.returncode, found.stdout + found.stderr
    assert "SUCCESS: 1 rule files found" in found.stdout


@pytest.mark.parametrize("rule", ALERTS, ids=lambda it: it["alert"])
def test_an_alert_says_how_urgent_it_is_and_what_to_do(rule: Mapping[str, Any]) -> None:
    """Whoever is woken up reads what is wrong, what to do first, and where there is more."""
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert {"summary", "description", "runbook_url"} == rule["annotations"].keys()
    assert f"docs/runbooks.md#{rule['alert'].lower()}" == rule["annotations"]["runbook_url"]
    assert not rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["description"].endswith(".")
    assert re.fullmatch(r"(Gateway|Auth)[A-Za-z]+", rule["alert"])


def test_names_are_given_once() -> None:
    """No two alerts share a name, so that a runbook belongs to one."""
    names = [it["alert"] for it in ALERTS]
    assert sorted(set(names)) == sorted(names)


def known() -> dict[str, dict[str, set[str]]]:
    """Return what our two programs show: the names of samples, and the values of labels that are fixed."""
    shown: dict[str, dict[str, set[str]]] = {"gateway_build_info": {}}
    for name, row in COUNTERS.items():
        values = [it.split(":") for it in row.values.split()]
        shown[f"gateway_{name}_total"] = {
            label: {it[place] for it in values} for place, label in enumerate(row.labels) if values
        }
    for histogram in HISTOGRAMS.values():
        shown |= {f"gateway_{histogram.name}{it}": {} for it in ("_bucket", "_count", "_sum")}
    metrics = Metrics()
    for name in GAUGES:
        metrics.watch(name, lambda: 1.0)
    page = metrics.exposition()[0].decode() + AuthMetrics().exposition().decode()
    for line in page.splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            shown.setdefault(name, {})
            shown |= {f"{name}{it}": {} for it in (("_bucket", "_count", "_sum") if kind == "histogram" else ())}
    return shown | {it: {} for it in AT_SCRAPE}


def test_rules_ask_for_what_there_is() -> None:
    """A metric or the value of a label that is written wrong, or was renamed, would be an alert that never fires."""
    rules = [rule for group in RULES["groups"] for rule in group["rules"]]
    shown = known() | {it["record"]: {} for it in rules if "record" in it}
    asked = [found for rule in rules for found in SELECTOR.findall(rule["expr"])]
    assert len(asked) > len(rules)
    for name, matchers in asked:
        if not OURS.match(name):
            continue
        assert name in shown, name
        for label, operator, text in MATCHER.findall(matchers):
            values = shown[name].get(label)
            if values is not None:
                assert set(text.split("|") if operator == "=~" else [text]) <= values, (name, label, text)


# --- its tests


@needs
@pytest.mark.parametrize("tests", TESTS, ids=lambda it: it.stem)
def test_alerts_fire_when_they_should_and_not_otherwise(tests: Path) -> None:
    """Each alert is shown what it is to bear and what it is not, and how long it may wait."""
    found = promtool("test", "rules", tests)
    assert 0 == found.returncode, found.stdout + found.stderr


def test_every_alert_is_tested() -> None:
    """None is without a test of its own."""
    assert sorted(it["alert"] for it in ALERTS) == sorted(name for path in TESTS for name in named(path))


NONE: Final = r" > 0(?= or |$)"
ABSENT: Final = r"^absent\(.*"
LOOSER: Final = ((NONE, " >= 0"), (" (>=?) ", r" \1 0.5 * "), (" == ", " >= 0 * "), (ABSENT, "vector(1)"))
TIGHTER: Final = ((NONE, " > 1e6"), (" (>=?) ", r" \1 1.5 * "), (" == ", " == 7 + "), (ABSENT, "vector(1) > 1"))


def altered(alerts: Sequence[str], change: Callable[[dict[str, Any]], object]) -> Any:
    """Return the records, and these alerts, changed; the others cost time only."""
    rules = copy.deepcopy(RULES)
    for group in rules["groups"]:
        group["rules"] = [it for it in group["rules"] if it.get("alert", alerts[0]) in alerts]
        for rule in group["rules"]:
            if "alert" in rule:
                change(rule)
    return rules


def moved(rule: dict[str, Any], replacements: Sequence[tuple[str, str]]) -> None:
    """Move every limit in an expression."""
    for old, new in replacements:
        rule["expr"], found = re.subn(old, new, rule["expr"])
        if found and old in {NONE, ABSENT}:
            return


@needs
@pytest.mark.parametrize("tests", TESTS, ids=lambda it: it.stem)
def test_the_tests_of_an_alert_can_fail(tests: Path, tmp_path: Path) -> None:
    """An alert that bears half or twice as much, or does not wait, is noticed: each by its own tests."""
    alerts = named(tests)
    waiting = {it["alert"] for it in ALERTS if "for" in it}
    for limits in (LOOSER, TIGHTER):
        assert set(alerts) == failures(tmp_path, altered(alerts, lambda it: moved(it, limits)), tests), limits  # noqa: B023 - called before the next turn
    assert waiting & set(alerts) == failures(tmp_path, altered(alerts, lambda it: it.pop("for", None)), tests)


# --- the tests' own means


def test_durations_are_read_and_hastened() -> None:
    """A minute is three seconds for whoever lives twenty times as fast, wherever a rule says it."""
    assert [90.0, 604800.0, 0.25] == [seconds(it) for it in ("1m30s", "1w", "250ms")]
    assert ["3000ms", "1ms"] == [faster(it, 20.0) for it in ("1m", "1ms")]
    rule = {"expr": 'x{a="[5m]"} > rate(y[5m]) * (z offset 1w)', "for": "30s"}
    found = hastened({"groups": [{"rules": [rule]}]}, 10.0)["groups"][0]["rules"][0]
    assert "3000ms" == found["for"]
    assert "rate(y[30000ms]) * (z offset 60480000ms)" in found["expr"]
