from __future__ import annotations

import json

import pytest

from loadtests.bench.__main__ import main
from loadtests.bench.nodes import KEPT, config, publication
from loadtests.bench.scenarios import SCENARIOS


def test_list_names_every_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    """Who asks what there is gets a line each, and learns which must be named."""
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert list(SCENARIOS) == [line.split()[0] for line in lines]
    assert ["crowd"] == [line.split()[0] for line in lines if "only if named" in line]


def test_an_unknown_scenario_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt name measures nothing."""
    with pytest.raises(SystemExit, match="2"):
        main(["fanout"])
    assert "invalid choice" in capsys.readouterr().err


@pytest.mark.parametrize("timed", [False, True])
def test_a_publication_has_a_hundred_bytes_of_data(timed: bool) -> None:
    """As the table of goals says, with the moment in it or without."""
    filled = publication(KEPT, timed=timed).replace("@I", "1").replace("@C", "2").replace("@T", "1" * 16)
    told = json.loads(filled)["publish"]
    assert "kept:2" == told["channel"]
    assert 100 == len(json.dumps(told["data"], separators=(",", ":")))


def test_a_scenario_changes_single_settings() -> None:
    """What it does not name stays as it is for all."""
    changed = config("http://jwks", "redis://r", "own", {"client": {"ping_interval": 1}, "shutdown": {"window": 0}})
    usual = config("http://jwks", "redis://r", "own")
    client = changed["client"]
    assert isinstance(client, dict)
    assert 1 == client.pop("ping_interval")
    assert usual["client"] == client
    assert {"window": 0} == changed["shutdown"]
