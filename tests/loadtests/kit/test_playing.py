"""From a command line to an exit code."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import httpx
import msgspec
import pytest
from typer.testing import CliRunner

from loadtests import scenarios
from loadtests.cli import app
from loadtests.kit import listing, outputs, playing
from loadtests.kit.profile import names
from loadtests.kit.progress import Progress
from loadtests.kit.result import (
    Audit,
    Broken,
    GeneratorProcess,
    Machine,
    NodeSample,
    Percentiles,
    Result,
    Second,
)
from loadtests.kit.target import TargetError
from loadtests.reports import writing
from loadtests.workers import room

RESULT = Result(
    scenario="fan-out", profile={}, target="x", command="y", started="2026-11-22T10:00:00+00:00",
    machine=Machine(cores=1, model="", system="", python="", memory=1), versions={}, measured=1.0, seconds=[],
    nodes=[], connect=Percentiles(count=1), subscribe=Percentiles(), acknowledge=Percentiles(), delivery=Percentiles(),
    recover=Percentiles(), audit=Audit(), closes={}, refusals={}, generators=[], broken=[], remarks=[],
)  # fmt: skip
BUSY = [GeneratorProcess(process=0, connections=1, mean=0.9, peak=1.0, lag=1.0)]


def changed(**fields: object) -> Result:
    """Return another result."""
    return msgspec.structs.replace(RESULT, **fields)


@pytest.mark.parametrize(
    ("result", "interrupted", "expected"),
    [
        (RESULT, False, 0),
        (changed(broken=[Broken(name="p99", wanted=1.0, seen=2.0)]), False, 1),
        (changed(audit=Audit(clean=False)), False, 1),
        (changed(generators=BUSY, audit=Audit(clean=False)), False, 3),
        (changed(connect=Percentiles()), False, 1),
        (changed(measured=0.0), False, 1),
        (changed(profile={"rate": 0.5}), False, 0),  # nothing was due in a second of that
        (changed(profile={"rate": 20}), False, 1),
        (changed(profile={"rate": 20}, acknowledge=Percentiles(count=5)), False, 1),
        (changed(profile={"rate": 20}, acknowledge=Percentiles(count=5), audit=Audit(delivered=1)), False, 0),
        (RESULT, True, 130),
        (None, True, 130),
    ],
)
def test_a_run_ends_as_it_went(result: Result | None, interrupted: bool, expected: int) -> None:
    """Passed, broken, void since the generator was the bottleneck, interrupted; and a run without anything fails."""
    assert expected == playing.code(result, interrupted=interrupted)


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["run", "rooms", "--secret", "x", "-q"], "python -m loadtests run rooms --secret ... -q"),
        (["run", "rooms", "--secret=x"], "python -m loadtests run rooms --secret=..."),
        (["run", "rooms", "--set", "a=b c"], "python -m loadtests run rooms --set 'a=b c'"),
    ],
)
def test_no_report_holds_a_secret(arguments: list[str], shown: str) -> None:
    """The command repeats the run, but for that."""
    assert shown == playing.command(arguments)


def test_cores_are_numbers_and_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that are there."""
    monkeypatch.setattr(room, "cores", lambda: list(range(8)))
    assert [1, 2, 5, 6, 7] == playing.core_numbers("1,2,5-7")
    assert playing.core_numbers("") == []
    for text in ("x", "1-", "-1", "1,8"):
        with pytest.raises(TargetError, match="--cores"):
            playing.core_numbers(text)


@pytest.mark.parametrize(
    ("status", "reason"), [(200, ""), (404, "it answers 404"), (0, "ReadError"), (-1, "no route to it")]
)
async def test_why_a_page_of_metrics_cannot_be_read_is_said(status: int, reason: str) -> None:
    """Also where an error says nothing itself."""

    def answer(request: httpx.Request) -> httpx.Response:
        if status < 1:
            raise httpx.ReadError("no route to it" if status else "", request=request)
        return httpx.Response(status)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        assert reason == await playing._unreadable(http, "http://127.0.0.1/metrics")


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    """All of it; another version, or something else, is refused with its name."""
    path = tmp_path / "result.json"
    path.write_bytes(writing.encoded(RESULT))
    assert outputs.read(path) == RESULT
    for content, reason in ((b"{}", "is not the result"), (writing.encoded(changed(version=9)), "version 9")):
        path.write_bytes(content)
        with pytest.raises(TargetError, match=reason):
            outputs.read(path)
    with pytest.raises(TargetError, match="cannot be read"):
        outputs.read(tmp_path / "gone.json")


def test_everything_that_can_be_played_is_listed() -> None:
    """Each scenario has a profile, each profile a scenario, and both say what they are."""
    assert scenarios.names() == names()
    told = listing.scenarios()
    for name in names():
        assert f"\n{name}\n" in f"\n{told}"
        assert listing.profile(name).startswith("#")
    assert "connections=1,000  rate=20  duration=20" in told


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "nope"],
        ["run", "nope"],
        ["run", "rooms", "--profile", "x.json"],
        ["run", "rooms", "--profile", "nowhere/mine.yaml"],
        ["run", "rooms", "--profile", "rooms"],
    ],
)
def test_what_there_is_not_is_said(arguments: list[str]) -> None:
    """With 2, and in one line that says what there is."""
    ended = CliRunner().invoke(app, arguments)
    assert (2, 1) == (ended.exit_code, ended.output.count("\n"))
    assert ended.output.startswith("loadtests: ")
    assert ", ".join(names()) in ended.output
    assert arguments[-1] in ended.output


def test_a_profile_is_for_its_scenario(tmp_path: Path) -> None:
    """It is not played as another."""
    path = tmp_path / "own.yaml"
    path.write_text(listing.profile("rooms"), encoding="utf-8")
    ended = CliRunner().invoke(app, ["run", "fan-out", "--profile", str(path)])
    assert (2, True) == (ended.exit_code, "'rooms', not for 'fan-out'" in ended.output)


def test_help_teaches() -> None:
    """With examples, and what each option is for."""
    for arguments, words in ((["--help"], "run fan-out"), (["run", "--help"], "GATEWAY_LOAD_SECRET")):
        ended = CliRunner().invoke(app, arguments)
        assert (0, True) == (ended.exit_code, words in ended.output)


class Terminal(StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        """It is."""
        return True


SECOND = Second(at=6, phase="measure", connected=1234, published=5, delivered=6170, closes=2, busy=0.9,
                delivery=Percentiles(count=1, p99=2.34))  # fmt: skip


def test_progress_is_rewritten_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that tells all; a shorter one leaves nothing of it, and what is said stays."""
    monkeypatch.setenv("COLUMNS", "200")
    out = Terminal()
    progress = Progress(out)
    progress(SECOND, [NodeSample(node="x", at=6.0, cpu=0.5)])
    for part in ("7 s measure", "1,234 connected", "5 published/s", "6,170 delivered/s", "p99 2.3 ms", "2 closed",
                 "generator 90% SATURATED", "node 50%"):  # fmt: skip
        assert part in out.getvalue()
    progress(msgspec.structs.replace(SECOND, busy=0.4, starved=0.5), [])
    assert "generator 40% (and waits 50%) SATURATED" in out.getvalue()
    progress(Second(at=7, phase="settle"), [])
    _, first, second = out.getvalue().split("\r")[1:]
    assert len(first) == len(second)
    progress.say("over")
    assert out.getvalue().endswith("\nover\n")


def test_progress_is_said_now_and_then_elsewhere() -> None:
    """With each phase, and every five seconds; quiet, not at all."""
    out, silent = StringIO(), StringIO()
    for progress in (Progress(out), Progress(silent, quiet=True)):
        for at in range(12):
            progress(Second(at=at, phase="ramp" if at < 3 else "measure"), [])
    seconds = [int(it.split()[0]) for it in out.getvalue().splitlines()]
    assert ([1, 4, 5, 10], "") == (seconds, silent.getvalue())
