"""The soak in little: the program runs, harms, judges and reports as in the long run."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from loadtests.soak.__main__ import write
from loadtests.soak.run import soak
from loadtests.soak.stage import Options
from tests.support import withholding

SVG = "{http://www.w3.org/2000/svg}"


async def test_a_short_soak_leaves_nothing_over(tmp_path: Path) -> None:
    """A hundred clients, a node that dies and a server that forgets: all come back, all goes, and the page says so."""
    faults = ("node killed", "Valkey killed, back empty")
    options = Options(seconds=16.0, clients=100, fault_every=8.0, seed=1, stay=(1.0, 6.0), faults=faults)
    told: list[str] = []
    outcome = await soak(options, tmp_path, told.append)
    assert not outcome.offences, outcome.offences
    assert faults == tuple(it.name for it in outcome.trials)
    killed, emptied = outcome.trials
    assert killed.closes[1006] > 0
    assert killed.caught_up > 0
    assert emptied.told > options.clients / 2
    assert outcome.handshakes > options.clients + killed.closes[1006]
    assert {"load", "present"} == outcome.verdicts.keys()
    assert {"node-1", "node-2"} == {it.name for it in outcome.plateaus}
    write(outcome, tmp_path / "soak.md")
    page = (tmp_path / "soak.md").read_text(encoding="utf-8")
    assert "**passed**" in page
    assert all(f"**{fault}**" in page for fault in faults)
    assert str(tmp_path) not in page
    figure = ET.parse(tmp_path / "images" / "soak.svg").getroot()  # noqa: S314 - we wrote it
    assert ["1", "2"] == [it.text for it in figure.iter(f"{SVG}text") if it.get("class") == "f-mark"]
    assert any("node killed" in it for it in told)


async def test_a_soak_of_nodes_that_lose_publications_fails(tmp_path: Path) -> None:
    """What the oracle finds is an offence of the run, named on its page."""
    program = withholding.program("publications")
    options = Options(
        seconds=6.0, clients=40, fault_every=60.0, seed=1, stay=(30.0, 60.0), program=program, publishes=3.0, settle=2.0
    )
    outcome = await soak(options, tmp_path, lambda _: None)
    assert not outcome.trials
    assert any("silent" in it for it in outcome.offences), outcome.offences
    write(outcome, tmp_path / "soak.md")
    assert "**failed**" in (tmp_path / "soak.md").read_text(encoding="utf-8")
