"""Every alert has its page, and what the pages name exists."""

from __future__ import annotations

import re
from typing import Any

import yaml

from auth_service.settings import AuthSettings
from gateway.disconnects import DISCONNECTS
from gateway.metrics import COUNTERS, GAUGES, HISTOGRAMS
from gateway.settings.classify import own_keys
from tests.support.tools import ROOT

DOCS = ROOT / "docs"
TEXT = (DOCS / "runbooks.md").read_text(encoding="utf-8")
RULES = yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yml").read_text(encoding="utf-8"))
ALERTS: list[dict[str, Any]] = [it for group in RULES["groups"] for it in group["rules"] if "alert" in it]


def test_each_alert_has_a_page_in_its_order() -> None:
    """Nobody who is woken finds nothing, and no page is about an alert that is no more."""
    assert [it["alert"] for it in ALERTS] == re.findall(r"^## (\w+)$", TEXT, re.MULTILINE)


def test_each_alert_leads_to_its_page() -> None:
    """The address in an alert is the page's anchor, and the page says how urgent it is."""
    for it in ALERTS:
        assert f"docs/runbooks.md#{it['alert'].lower()}" == it["annotations"]["runbook_url"]
        page = TEXT.partition(f"\n## {it['alert']}\n")[2].lstrip()
        assert page.startswith(f"*{it['labels']['severity'].capitalize()}.* ")


def test_metrics_that_are_named_exist() -> None:
    """A query that a tired person copies gives an answer."""
    told = {f"gateway_{it}" for it in GAUGES} | {f"gateway_{it}_total" for it in COUNTERS}
    told |= {f"gateway_{it.name}" for it in HISTOGRAMS.values()}
    source = (DOCS / "reference" / "metrics.md").read_text(encoding="utf-8")
    told |= set(re.findall(r"`(auth_\w+)`", source))
    named = set(re.findall(r"`((?:gateway|auth)_[a-z_]+)[`{ ]", TEXT))
    assert len(named) > 15
    assert named <= told


def test_settings_that_are_named_exist() -> None:
    """What is to be raised or lowered has that name."""
    known = {key for key, kind in own_keys().items() if kind != "section"} | {"http_server.trusted_proxies"}
    sections = {it.partition(".")[0] for it in known}
    named = {it for it in re.findall(r"`([a-z_]+\.[a-z_.]+)`", TEXT) if it.partition(".")[0] in sections}
    events = _events()
    assert named
    assert named - events <= known
    variables = set(re.findall(r"`(AUTH_[A-Z_]+)`", TEXT))
    assert variables
    assert variables <= {f"AUTH_{it.upper()}" for it in AuthSettings.model_fields}


def _events() -> set[str]:
    return set(re.findall(r"^\| `([a-z_.]+)` \|", (DOCS / "reference" / "logging.md").read_text("utf-8"), re.MULTILINE))


def test_events_and_codes_that_are_named_exist() -> None:
    """What is to be looked for in the logs is written there."""
    prefixes = {it.partition(".")[0] for it in _events()}
    files = {"gateway.toml", "redis.md"}
    named = {it for it in re.findall(r"`([a-z]+\.[a-z_]+)`", TEXT) if it.partition(".")[0] in prefixes} - files
    settings = set(own_keys())
    assert len(named - settings) > 10
    assert named - settings <= _events()
    codes = {int(it) for it in re.findall(r"\b(3[05]\d\d)\b", TEXT)}
    assert len(codes) > 5
    assert codes <= {it.code for it in DISCONNECTS}
