from __future__ import annotations

from pathlib import Path

import pytest

from loadtests import scenarios
from loadtests.kit import profile
from loadtests.kit.expectations import unplanned
from loadtests.kit.profile import PROFILES, Profile, ProfileError

COMMENTED = 3  # lines at the head that say what the load is, and what it shows


@pytest.mark.parametrize("name", profile.names())
def test_profiles_of_the_kit_can_be_played(name: str) -> None:
    """Each is valid, of a scenario that there is, expects no loss, and says at its head what it shows."""
    found = profile.read(name)
    assert found.scenario in scenarios.names()
    assert found.about
    assert 0 == found.expect.lost
    head = (PROFILES / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[:COMMENTED]
    assert all(line.startswith("#") for line in head)


def test_every_scenario_has_a_profile_to_begin_with() -> None:
    """What `list` shows can be run by its name alone."""
    assert set(scenarios.names()) <= set(profile.names())


@pytest.mark.parametrize("name", sorted(set(profile.names()) - {"soak", "idle"}))
def test_profiles_are_quick_enough_to_be_tried(name: str) -> None:
    """But for the soak and what must wait for pings, a first run ends within a minute or so."""
    found = profile.read(name)
    assert found.ramp + found.warm_up + found.duration <= 60


def test_changes_reach_every_depth() -> None:
    """A change on the command line is YAML, and may name a field of the expectations."""
    found = profile.read("rooms", {"rate": "2.5e1", "expect.p99": "20", "about": "less"})
    assert (25.0, 20.0, "less") == (found.rate, found.expect.p99, found.about)


def test_what_it_is_about_is_told_in_the_numbers_that_are_played() -> None:
    """A change on the command line is one in the sentence, too."""
    told = profile.read("rooms", {"rate": "1234567", "connections": "4000", "members": "8"}).about
    assert "4,000 connections in rooms of 8 speak 1,234,567 times a second, all together" == told
    assert "within 0.25 s" in profile.read("storm", {"jitter": "0.25"}).about
    for name in profile.names():
        assert not {"{", "}"} & set(profile.read(name).about)


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        ("about", "'{rat}'", "no field {rat}"),
        ("rate", "[", "is no YAML"),
        ("rate.high", "1", "rate is a value"),
        ("rat", "1", "rat:"),
    ],
)
def test_changes_that_cannot_be_made(field: str, value: str, fault: str) -> None:
    """A slip on the command line is told as one in a file is."""
    with pytest.raises(ProfileError, match=fault):
        profile.read("rooms", {field: value})


def test_a_file_is_a_profile_too(tmp_path: Path) -> None:
    """Anybody may write one; what it does not say has its default."""
    path = tmp_path / "mine.yaml"
    path.write_text("scenario: rooms\nconnections: 5\n", encoding="utf-8")
    assert Profile(scenario="rooms", connections=5) == profile.read(str(path))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("scenario: rooms\nconnectons: 5\nconnections: 5\n", "connectons: there is no such field"),
        ("scenario: rooms\nconnections: 0\n", "connections: Input should be greater than 0"),
        ("scenario: rooms\nconnections: 5\nexpect:\n  p98: 5\n", "expect.p98: there is no such field"),
        ("- scenario: rooms\n", "must hold fields"),
        ("scenario: [rooms\n", "is no YAML"),
    ],
)
def test_faults_of_a_profile_are_named(tmp_path: Path, text: str, fault: str) -> None:
    """A misspelt field, a value out of range or no YAML at all: the error says which and in which file."""
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ProfileError, match=fault) as error:
        profile.read(str(path))
    assert "bad.yaml" in str(error.value)


def test_a_profile_that_is_not_there() -> None:
    """The error names those that are."""
    with pytest.raises(ProfileError, match=r"no profile 'nothing'.*rooms, .*storm"):
        profile.read("nothing")


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    """As one that is not there."""
    path = tmp_path / "odd.yaml"
    path.write_bytes(b"scenario: \xff")
    with pytest.raises(ProfileError, match=r"odd\.yaml cannot be read"):
        profile.read(str(path))


def test_slow_profile_forgives_what_it_is_about() -> None:
    """The profile with slow clients expects no closes but theirs."""
    assert 0 == unplanned(profile.read("slow"), {"3008": 10})
    assert 1 == unplanned(profile.read("slow"), {"3001": 1})
