"""Whether this machine has room for a run."""

from __future__ import annotations

import pytest

from loadtests.kit.profile import Profile
from loadtests.kit.target import TargetError
from loadtests.workers import room


@pytest.mark.parametrize(
    ("cores", "local", "expected"), [([0, 1, 2], True, [1, 2]), ([0, 1, 2], False, [0, 1, 2]), ([3], True, [3])]
)
def test_a_server_on_this_machine_keeps_a_core(
    monkeypatch: pytest.MonkeyPatch, cores: list[int], local: bool, expected: list[int]
) -> None:
    """If there is more than one."""
    monkeypatch.setattr(room, "cores", lambda: cores)
    assert expected == room.generator_cores(local=local)
    assert len(expected) == room.processes(Profile(scenario="x", connections=100), local=local)


@pytest.mark.parametrize(("wanted", "connections", "expected"), [(5, 100, 5), (5, 3, 3)])
def test_the_profile_says_how_many_processes(wanted: int, connections: int, expected: int) -> None:
    """But none without a connection."""
    assert expected == room.processes(Profile(scenario="x", connections=connections, processes=wanted), local=False)


@pytest.mark.parametrize(
    ("of", "local", "allowed", "advice"),
    [
        (1, False, 1000, r"1,001 connections need 1,201 .* each process .*--processes 2"),
        (2, True, 1000, r"1,002 connections need 1,202 .* the node on this machine.*ulimit"),
    ],
)
def test_too_few_open_files_are_noticed_before(of: int, local: bool, allowed: int, advice: str) -> None:
    """With what to do; with as many as it takes it is silent."""
    profile = Profile(scenario="x", connections=1000)
    with pytest.raises(TargetError, match=advice):
        room.check_limit(profile, of, allowed, local=local)
    room.check_limit(profile, of, 1202, local=local)
