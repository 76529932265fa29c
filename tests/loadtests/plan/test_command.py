from __future__ import annotations

import json
import re
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from loadtests.plan import constants
from loadtests.plan.command import app
from loadtests.plan.workload import Workload
from tests.loadtests.plan.runs import Made, run, written

COSTS = constants.read().costs()
LOAD = Workload(connections=1000, channels=10, subscribers=100, rate=50, size=200)


def called(*arguments: str) -> Result:
    """Call `plan` with these."""
    return CliRunner().invoke(app, arguments, prog_name="plan")


def test_a_plan_is_tables_of_80_columns_without_colours() -> None:
    """Piped, it is plain text that fits, and says what is needed, what breaks first, and what is assumed."""
    found = called("--connections", "10M", "--like", "rooms")
    assert found.exit_code == 0
    assert "\x1b" not in found.output
    assert max(map(len, found.output.splitlines())) <= 80
    for words in (
        "pods, in 3 zones",
        "servers, a core each",
        "99 % are back after",
        "nearest first",
        "assumed, not measured",
    ):
        assert words in found.output


@pytest.mark.parametrize("like", ["rooms", "live", "notifications"])
def test_json_holds_the_plan_its_range_and_its_limits(like: str) -> None:
    """The same as JSON, which any parser reads."""
    told = json.loads(called("--connections", "1M", "--like", like, "--json").output)
    assert told["low"]["pods"]["count"] <= told["value"]["pods"]["count"] <= told["high"]["pods"]["count"]
    assert told["value"]["workload"]["connections"] == 1_000_000
    shares = [it["share"] for it in told["limits"]]
    assert shares == sorted(shares, reverse=True)


def test_options_change_a_named_workload() -> None:
    """What is given takes the place of what the name says; the rest stays."""
    given = "--connections 200k --like rooms --rate 5k --size 300 --zones 1 --nodes 2 --json"
    told = json.loads(called(*given.split()).output)
    it = told["value"]
    assert (it["workload"]["rate"], it["workload"]["size"], it["workload"]["subscribers"]) == (5000, 300, 10)
    assert (it["margin"]["zones"], it["margin"]["lost_zones"], it["pod"]["nodes"]) == (1, 0, 2)
    assert it["lost"] == 0


def test_by_hand_each_connection_has_one_channel() -> None:
    """Without a name, the connections are spread over the channels that were given."""
    told = json.loads(called("--connections", "10M", "--channels", "1M", "--rate", "200k", "--json").output)
    assert told["value"]["workload"]["subscribers"] == 10
    alone = json.loads(called("--connections", "5", "--json").output)
    assert (alone["value"]["workload"]["channels"], alone["value"]["workload"]["subscribers"]) == (5, 1)


def test_what_cannot_be_done_at_the_upper_end_is_null() -> None:
    """A plan that stands on its middle alone says so, in JSON and in its tables."""
    hot = ("--connections", "100k", "--channels", "1", "--rate", "30k", "--network", "100G")
    assert json.loads(called(*hot, "--json").output)["high"] is None
    assert "-?" in called(*hot).output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "say how many --connections"),
        (("--connections", "0"), "connections must be from 1"),
        (("--connections", "-4"), "connections must be from 1"),
        (("--connections", "nan"), "connections must be"),
        (("--connections", "1e400"), "connections must be"),
        (("--connections", "many"), "is no number"),
        (("--connections", ""), "is no number"),
        (("--connections", "1k", "--like", "nothing"), "these are: rooms, live, notifications"),
        (("--connections", "1k", "--rate", "nan"), "rate must be from 0"),
        (("--connections", "1k", "--size", "inf"), "size must be"),
        (("--connections", "1k", "--subscribers", "2k"), "too few for channels of 2,000"),
        (("--connections", "1k", "--cpu", "0.9"), "cpu must be from"),
        (("--connections", "1k", "--zones", "0"), "zones must be from"),
        (("--connections", "1k", "--lost-zones", "3"), "leave nobody"),
        (("--connections", "1k", "--connections-per-pod", "0"), "connections per pod must be from"),
        (("--connections", "10M", "--channels", "1", "--rate", "1M"), "have not enough cpu"),
        (("--connections", "1k", "--constants", "/nowhere.toml"), "cannot be read"),
        (("fit", "/nowhere.json"), "cannot be read"),
        (("check", "/nowhere.json"), "cannot be read"),
        (("page", "/nowhere"), "cannot be read"),
    ],
)
def test_hostile_input_is_one_sentence(arguments: tuple[str, ...], words: str) -> None:
    """Whatever is wrong ends with code 2 and says what, without a traceback."""
    found = called(*arguments)
    assert found.exit_code == 2
    assert words in " ".join(found.output.replace("│", " ").split())
    assert "Traceback" not in found.output


def test_help_teaches() -> None:
    """The help begins with examples that are commands of their own."""
    text = called("--help").output
    assert "plan --connections 1M --like rooms" in text
    for line in re.findall(r"^ +plan (--conn.*)", text, re.MULTILINE):
        assert called(*line.split()).exit_code == 0, line


def test_fit_writes_constants_that_a_plan_uses(tmp_path: Path) -> None:
    """From a bench to constants, and from these to another plan; the file says where they come from."""
    figures, mine = tmp_path / "bench.json", tmp_path / "mine.toml"
    figures.write_text('{"accepts, each token cached": [5000, 5100], "other": [1.0]}', encoding="utf-8")
    found = called("fit", str(figures), "--output", str(mine), "--machine", "mine", "--date", "2026-12-01")
    assert found.exit_code == 0
    assert "node.accept" in found.output
    assert "1 other rows say nothing" in found.output
    it = constants.read(mine)["node.accept"]
    assert (it.source, it.machine, it.date, it.basis) == ("bench.json", "mine", "2026-12-01", "measured")
    assert it.value == pytest.approx(197, rel=0.1)
    told = [
        json.loads(called("--connections", "1M", "--like", "live", "--accepts", "0", "--json", *use).output)
        for use in ((), ("--constants", str(mine)))
    ]
    assert told[0]["value"]["course"]["accepts"] < told[1]["value"]["course"]["accepts"]


def test_fit_as_json(tmp_path: Path) -> None:
    """Constants, errors and rows left out, for other tools."""
    figures = tmp_path / "bench.json"
    figures.write_text('{"redis.push": [2.0], "other": [1.0]}', encoding="utf-8")
    told = json.loads(called("fit", str(figures), "--json").output)
    assert told["constants"]["redis.push"]["value"] == 2
    assert told["ignored"] == ["other"]


def test_constants_that_cannot_be_written(tmp_path: Path) -> None:
    """A folder that is not there is one sentence."""
    figures = tmp_path / "bench.json"
    figures.write_text('{"redis.push": [2.0]}', encoding="utf-8")
    found = called("fit", str(figures), "--output", str(tmp_path / "none" / "mine.toml"))
    assert found.exit_code == 2
    assert "cannot be written" in found.output


@pytest.mark.parametrize(("wrong", "code"), [(1.0, 0), (1.5, 1)])
def test_check_ends_with_1_when_the_model_is_off(tmp_path: Path, wrong: float, code: int) -> None:
    """Each resource of each node is shown with its error; one that is more than 20 % off fails."""
    path = written(run(LOAD, COSTS, Made(shares=(0.5, 0.5), wrong=wrong)), tmp_path)
    found = called("check", str(path))
    assert found.exit_code == code
    assert found.output.count("memory") == 2
    assert ("OFF" in found.output) == bool(code)
    told = json.loads(called("check", str(path), "--json").output)
    assert {it["holds"] for it in told if it["resource"] == "cpu"} == {not code}


def test_measured_constants_leave_nothing_to_warn_of(tmp_path: Path) -> None:
    """Once no constant is assumed, the plan says so."""
    known = constants.read()
    path = tmp_path / "mine.toml"
    constants.write(constants.Constants({name: replace(it, basis="measured") for name, it in known.items()}), path)
    found = called("--connections", "1k", "--constants", str(path))
    assert found.output.endswith("All constants are measured.\n")


def test_it_is_a_module_of_its_own(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m loadtests.plan` is the same command."""
    monkeypatch.setattr("sys.argv", ["plan", "--connections", "1k"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("loadtests.plan", run_name="__main__")
    assert ended.value.code == 0
    assert "pods, in 3 zones" in capsys.readouterr().out
