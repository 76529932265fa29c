"""What a soak makes of its measurements: memory, leftovers, logs, the order of faults, figure and page."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from random import Random
from xml.etree import ElementTree as ET

import pytest

from loadtests.oracle import Offence, Verdict
from loadtests.soak.faults import FAULTS, rounds
from loadtests.soak.leftovers import Leftover, complaints, kind, summed
from loadtests.soak.plateau import Plateau, plateau
from loadtests.soak.report import Outcome, page, picture
from loadtests.soak.stage import Options
from loadtests.soak.trial import Trial
from loadtests.soak.watch import Sample

SVG = "{http://www.w3.org/2000/svg}"


def course(seconds: int, growth: float) -> Plateau:
    """Return what is made of a node that grows by so many MiB a minute, once it has come to 80."""
    return plateau("node-1", [(float(at), min(80.0, at / 2) + growth * at / 60) for at in range(seconds)])


def test_a_node_that_found_its_size_is_on_a_plateau() -> None:
    """How it got there does not count."""
    found = course(600, 0.0)
    assert (80.0, [80.0] * 5) == (found.first, found.slices)
    assert abs(found.rise) < 1e-9
    assert not found.offence


def test_a_leak_is_an_offence() -> None:
    """More than a tenth on top of the first plateau is one, and so is a slow rise that does not end."""
    assert "memory went from 88 to 99 MiB" in course(600, 2.0).offence
    slow = course(600, 1.4)
    assert "memory went up all the time, by 7.0 MiB" in slow.offence
    assert max(slow.slices) < 1.1 * slow.first


def test_a_short_run_says_nothing_about_memory() -> None:
    """A process that is still finding its size is not blamed."""
    assert not course(30, 100.0).judged
    assert not course(30, 100.0).offence
    assert course(1, 0.0).slices == [0.0] * 5


def test_more_than_allowed_is_left_over() -> None:
    """Less is no offence: a node may have had more at the beginning."""
    assert Leftover("node-1", "tasks", 12, 11).offence == "node-1: tasks 12, not 11"
    assert not Leftover("node-1", "tasks", 10, 11).offence


def test_nodes_are_summed_up() -> None:
    """The page has one row for all nodes, and one for each thing in the Valkey."""
    found = [Leftover("node-1", "tasks", 1, 2), Leftover("node-2", "tasks", 3, 2), Leftover("Valkey", "keys", 1)]
    assert [Leftover("nodes", "tasks", 4, 4), Leftover("Valkey", "keys", 1)] == summed(found)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("gateway.presence.{53t}.present:1", "presence"),
        ("gateway.client.{53t}.load:1.2", "client"),
        ("gateway.control.client.{53t}.x", "control"),
        ("gateway.nodes.{53t}", "nodes"),
    ],
)
def test_keys_and_channels_have_kinds(name: str, what: str) -> None:
    """Whatever their channel is called."""
    assert what == kind(name)


def test_tracebacks_errors_and_foreign_lines_are_complaints() -> None:
    """Warnings are what faults are supposed to cause."""
    lines = [
        json.dumps({"event": "redis.link_down", "level": "warning"}),
        json.dumps({"event": "connection.failed", "level": "error"}),
        json.dumps({"event": "x", "level": "info", "exception": "Traceback ..."}),
        "Fatal Python error",
    ]
    assert [f"node-1: {it}" for it in lines[1:]] == complaints("node-1", "\n".join(lines))


def test_a_seed_decides_the_order_of_faults() -> None:
    """Each kind comes once a round, the same way for the same seed."""
    twice = 2 * len(FAULTS)
    one, same, other = (list(islice(rounds((), Random(seed)), twice)) for seed in (1, 1, 2))
    assert one == same
    assert one != other
    assert set(FAULTS) == set(one[: len(FAULTS)]) == set(one[len(FAULTS) :])
    assert ["a", "b", "a"] == list(islice(rounds(("a", "b"), Random(1)), 3))


def outcome() -> Outcome:
    """Return what a good run may leave."""
    trial = Trial(1, "node killed", 15.0, "node-3", lasted=3.0, served=5.0, caught_up=6.0, closes=Counter({1006: 600}))
    return Outcome(
        options=Options(seconds=600.0, seed=7),
        valkey="8.1",
        trials=[trial],
        samples=[Sample(float(at), 2000, 4000.0, {"node-1": 80.0}) for at in range(600)],
        verdicts={"load": Verdict(logs=1, channels=60, acknowledged=1234)},
        plateaus=[course(600, 0.0)],
        leftovers=[Leftover("node-1", "tasks", 11, 11)],
    )


def test_the_page_of_a_good_run() -> None:
    """It says what happened, and how to do it again."""
    text = page(outcome(), "images/soak.svg")
    assert "Result: **passed**" in text
    assert "| 1 | 0:15 | **node killed** node-3 | 3.0 | 5.0 | 6.0 | 600 x 1006 | 0 | 0 | - |" in text
    assert "![" in text
    assert "--seed 7 " in text
    assert "too short" not in text


def test_the_figure_of_a_run() -> None:
    """Three panels, a number for each fault, and the two nodes in two colours."""
    good = outcome()
    good.samples = [
        Sample(float(at), 2000, 4000.0, {"node-1": 80.0} if at < 300 else {"node-1": 80.0, "node-2": 70.0})
        for at in range(600)
    ]
    figure = ET.fromstring(picture(good))  # noqa: S314 - we wrote it
    texts = [it.text for it in figure.iter(f"{SVG}text")]
    assert {"connections", "deliveries a second", "memory of a node, MiB", "node-1", "node-2"} <= set(texts)
    assert ["1"] == [it.text for it in figure.iter(f"{SVG}text") if it.get("class") == "f-mark"]
    drawn = [it for it in figure.iter(f"{SVG}path") if it.get("class") in {"s-blue", "s-green"}]
    assert 4 == len(drawn)


def test_each_kind_of_offence_fails_a_run() -> None:
    """Whatever part of it was broken, the page names it."""
    bad = outcome()
    bad.trials = [Trial(1, "node killed", 15.0, offence="node killed: not all was well")]
    bad.verdicts["load"].offences.append(Offence("silent gap", "load:1", "client-1"))
    bad.plateaus = [course(600, 2.0)]
    bad.leftovers = [Leftover("node-1", "tasks", 12, 11)]
    bad.failures = ["node-1: a traceback"]
    assert len(bad.offences) == 5
    text = page(bad, "images/soak.svg")
    assert "Result: **failed**, with 5 offences" in text
    assert "**never**" in text
    assert "- load: BROKEN" in text
