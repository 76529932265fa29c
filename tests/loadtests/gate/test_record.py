from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.bench.gate import __main__ as command
from loadtests.bench.gate.__main__ import Findings, report
from loadtests.bench.gate.record import C_LOOP, FALL, FALL_ELSEWHERE, STOCK, Record, Round, read, recorded, write
from loadtests.bench.gate.verdict import FEWEST, Outcome

OURS = {"fan-out": 7.0, "joined": 1.5, "1:1": 20.0}


def machine(kernel: float = 1.0, python: float = 1.0, ours: float = 1.0) -> Round:
    """Return a round on a machine whose kernel and Python take so many times as long, and our code too."""
    c_loop, stock = 5.0 * kernel, 5.0 * kernel + 10.0 * python
    kernel_part = {"fan-out": c_loop, "joined": c_loop / 8, "1:1": c_loop}
    usual = {"fan-out": 5.0, "joined": 5.0 / 8, "1:1": 5.0}
    costs = {it: kernel_part[it] + (OURS[it] - usual[it]) * python for it in OURS}
    return Round({C_LOOP: c_loop, STOCK: stock, **{it: cost * ours for it, cost in costs.items()}})


@pytest.fixture
def record() -> Record:
    """What the usual machine measures."""
    return recorded([machine()] * 3, "test")


@pytest.mark.parametrize(("kernel", "python"), [(1, 1), (2, 1), (1, 2), (0.5, 0.5), (1.3, 0.7)])
def test_another_machine_changes_nothing(record: Record, kernel: float, python: float) -> None:
    """Whatever kernel and Python take there, the same code has the speed 1."""
    rounds = [machine(kernel, python)]
    for kind in OURS:
        assert [pytest.approx(1.0)] == record.speeds(kind, rounds)


def test_slower_code_is_slower_on_any_machine(record: Record) -> None:
    """A quarter more work is a speed of 0.8."""
    for kind in OURS:
        assert [pytest.approx(0.8)] == record.speeds(kind, [machine(1.3, 0.7, ours=1.25)])


def test_a_foreign_machine_is_judged_with_more_care(record: Record) -> None:
    """The relation of the references says how like a machine is: alike, another one, or nothing to compare with."""
    assert pytest.approx(1 - FALL) == record.bound([machine(1.05, 1)])
    assert pytest.approx(1 - FALL_ELSEWHERE) == record.bound([machine(1, 1.4)])
    assert record.bound([machine(1, 4)]) == 0.0


def test_a_record_survives_its_file(record: Record, tmp_path: Path) -> None:
    """What is written is read again."""
    write(record, tmp_path / "recorded.toml")
    again = read(tmp_path / "recorded.toml")
    assert pytest.approx(record.relation, abs=1e-3) == again.relation
    assert pytest.approx(dict(record.work), abs=1e-4) == again.work
    assert "test" == again.about


def test_the_record_that_is_kept_can_be_read() -> None:
    """It has all kinds of load, and its references stand as they must."""
    kept = read()
    assert kept.relation > 1
    assert set(OURS) == set(kept.work)
    assert all(it > 0 for it in kept.work.values())


def test_all_must_hold_and_one_may_fall(record: Record, capsys: pytest.CaptureFixture[str]) -> None:
    """A fall of one kind of load fails the gate; without rounds, or with disturbed ones, there is no verdict."""
    findings = Findings(record)
    assert Outcome.OPEN == findings.outcome
    for _ in range(FEWEST):
        findings.take(Round(machine(ours=9).costs, "noise"))
    assert Outcome.OPEN == findings.outcome
    assert report(findings) == 0
    assert "12 of 12 rounds do not count: noise" in capsys.readouterr().out
    healthy = Findings(record, [machine()] * FEWEST)
    assert Outcome.HOLDS == healthy.outcome
    assert report(healthy) == 0
    slower = machine()
    one_fell = Round({**slower.costs, "joined": 2 * slower.costs["joined"]})
    fallen = Findings(record, [one_fell] * FEWEST)
    assert Outcome.FELL == fallen.outcome
    assert report(fallen) == 1
    assert "FELL" in capsys.readouterr().out


def test_a_machine_that_compares_with_nothing_gives_no_verdict(record: Record) -> None:
    """The record says nothing about it, so nothing is said."""
    assert Outcome.OPEN is Findings(record, [machine(1, 4, ours=3)] * FEWEST).outcome


def test_a_gate_without_a_record_says_how_to_write_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is no fall and no success: the command was used wrongly."""

    def none() -> Record:
        raise KeyError("work")

    monkeypatch.setattr(command, "read", none)
    monkeypatch.setattr(command, "_impossible", lambda: "")
    assert command.main([]) == 2
    assert "--record" in capsys.readouterr().err
