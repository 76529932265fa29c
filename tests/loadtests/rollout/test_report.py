"""A rehearsal is failed by each thing that must not happen, and its page and figure say what did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from xml.etree import ElementTree as ET

import pytest

from loadtests.oracle import Ledger, verify
from loadtests.rollout.report import page, picture
from loadtests.rollout.run import Outcome, Step
from loadtests.rollout.stage import Options

STEP: Final = Step(old="node-1", new="node-2", began=3.0, over=9.0, start=2.0, hook=5.5, end=0.1, code=0, moved=50)


def outcome(**changes: Any) -> Outcome:
    """Return one that is passed, but for these changes."""
    whole: dict[str, Any] = {
        "options": Options(clients=100, nodes=1, replaced=1),
        "seconds": 12.0,
        "steps": [STEP],
        "connections": [(0.0, {"node-1": 100}), (6.0, {"node-1": 50, "node-2": 50}), (12.0, {"node-2": 100})],
        "closes": [5.0, 6.0, 6.5],
        "latencies": [(0.5, 0.01), (1.5, 0.02)],
        "codes": Counter({3001: 100}),
        "deliveries": 1000,
        "newcomers": 110,
        "p50": 0.004,
        "p99": 0.02,
        "gap": 0.5,
        "verdict": verify(Ledger(), [], {}),
    }
    return Outcome(**{**whole, **changes})


@pytest.mark.parametrize(
    ("changes", "offence"),
    [
        ({"steps": [replace(STEP, moved=0)]}, "nobody was on node-1"),
        ({"steps": [replace(STEP, code=-9)]}, "node-1 ended with -9"),
        ({"codes": Counter({3001: 99, 1006: 1})}, "1 connections ended with 1006"),
        ({"codes": Counter({3001: 99, 1012: 1})}, "1 connections ended with 1012"),
        ({"codes": Counter({3001: 201})}, "2.01 reconnects a client"),
        ({"refused": Counter({502: 3})}, "3 handshakes were refused with 502"),
        ({"p99": 0.201}, "p99 of deliveries 201 ms"),
        ({"verdict": None}, "the oracle"),
    ],
)
def test_each_offence_fails_it(changes: Mapping[str, Any], offence: str) -> None:
    """Whatever must not happen is named, alone; and the page says so."""
    failed = outcome(**changes)
    assert [offence] == [it[: len(offence)] for it in failed.offences]
    assert f"**failed**:\n\n- {offence}" in page(failed, "x.svg")


def test_page_says_what_happened() -> None:
    """The result, the figures and the steps stand on it."""
    text = page(outcome(), "images/x.svg")
    assert "Result: **passed**" in text
    assert "| reconnects of a client | 1.00 on average |" in text
    assert "| node-1 | node-2 | 3 | 50 | 2.0 | 5.5 | 0.10 | 0 |" in text
    assert "(images/x.svg)" in text


def test_timeline_shows_each_node_and_each_drain() -> None:
    """It is an SVG with a line for each node, and the drain is named in every panel."""
    root = ET.fromstring(picture(outcome()))  # noqa: S314 - it is our own
    words = [it.text for it in root.iter() if it.tag.endswith("text")]
    assert {"node-1", "node-2", "connections of each node"} <= set(words)
    assert words.count("node-1 drains") == 3
