"""Which passwords may be chosen."""

from __future__ import annotations

import pytest

from auth_service.passwords.rules import _common, fault

LONG, SHORT, COMMON, NAME = "at most", "at least", "first that others try", "more than the username"


@pytest.mark.parametrize(
    "password",
    [
        "correct horse",
        "correct horse battery staple",
        "zqwvkxjy",  # no digits, no capitals: none are asked for
        "93847561029",
        "        x",
        "\N{PILE OF POO}" * 7 + "!",
        "пароль-мой-верный",
        "Ünïcödé!",
        "with\ttab and \0 nul",
        "kz" * 512,
        "alice has 5 left",
    ],
)
def test_good_passwords(password: str) -> None:
    """Any characters will do, none must be there, up to 1,024."""
    assert fault(password, "alice") is None


@pytest.mark.parametrize(
    ("password", "username", "expected"),
    [
        ("", "alice", SHORT),
        ("kzq-wv4", "alice", SHORT),
        ("e\N{COMBINING ACUTE ACCENT}" * 7, "alice", SHORT),  # seven characters, however they were typed
        ("kz" * 512 + "k", "alice", LONG),
        ("password", "alice", COMMON),
        ("PassWord", "alice", COMMON),
        ("12345678", "alice", COMMON),
        ("qwertyuiop", "alice", COMMON),
        (" password", "alice", COMMON),
        ("trustno1", "alice", COMMON),
        ("alexandria-k", "alexandria-k", NAME),
        ("Alexandria-K", "alexandria-k", NAME),
        ("k-airdnaxela", "alexandria-k", NAME),
        ("alicealice", "alice", NAME),
        ("ALICE-2024", "alice", None),
        ("alice2024", "alice", NAME),
        ("2024alice", "Alice", NAME),
        ("aaaaaaaab", "a", NAME),
    ],
)
def test_bad_passwords(password: str, username: str, expected: str | None) -> None:
    """Short, long, common in whatever case, and little more than the name: each is told for what it is."""
    assert (expected or "") in (fault(password, username) or "")
    assert (expected is None) is (fault(password, username) is None)


def test_nobody_has_no_name() -> None:
    """Without a name, only the rest is asked."""
    assert fault("correct horse", "") is None


def test_the_list_is_a_list() -> None:
    """There are over 3,000 common passwords, each of which could be chosen but for being there."""
    assert len(_common()) > 3000
    for password in _common():
        assert len(password) >= 8
        assert password == password.strip().casefold()
        assert "first that others try" in (fault(password, "") or "")
    assert not any("copyright" in password.lower() or "---" in password for password in _common())
