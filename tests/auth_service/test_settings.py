"""Settings, and the policy made of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from auth_service.errors import OperatorError
from auth_service.policy import by_pattern
from auth_service.settings import load


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("http://a:1", ("http://a:1",)),
        ("http://a:1, http://b", ("http://a:1", "http://b")),
        ('["http://a:1","http://b"]', ("http://a:1", "http://b")),
    ],
)
def test_lists(monkeypatch: pytest.MonkeyPatch, text: str, expected: tuple[str, ...]) -> None:
    """A list is JSON or separated by commas."""
    monkeypatch.setenv("AUTH_CORS_ORIGINS", text)
    assert expected == load().cors_origins


def test_flags_win_over_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag that is given counts, one that is not leaves the variable."""
    monkeypatch.setenv("AUTH_DATABASE_URL", "sqlite:///variable.db")
    monkeypatch.setenv("AUTH_KEY_FILE", "variable.pem")
    settings = load(database_url="sqlite:///flag.db", key_file=None)
    assert ("sqlite:///flag.db", Path("variable.pem")) == (settings.database_url, settings.key_file)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AUTH_TICKET_SECONDS", "61"),
        ("AUTH_ACCESS_TOKEN_SECONDS", "soon"),
        ("AUTH_CORS_ORIGINS", "[1"),
        ("AUTH_ISSUER", ""),
    ],
)
def test_bad_values_are_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """One line says which variable is wrong and how."""
    monkeypatch.setenv(name, value)
    with pytest.raises(OperatorError, match=f"^{name}: ") as caught:
        load()
    assert "\n" not in str(caught.value)


def test_kubernetes_does_not_configure_us(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that Kubernetes injects for a Service named `auth` are no settings of ours."""
    for name in ("AUTH_PORT", "AUTH_PORT_8001_TCP", "AUTH_SERVICE_HOST", "AUTH_SERVICE_PORT"):
        monkeypatch.setenv(name, "tcp://10.0.0.1:8001")
    assert load() == load()


@pytest.mark.parametrize(
    ("user", "channel", "expected"),
    [
        ("alice", "$chat:team", True),
        ("alice", "$chat:", True),
        ("alice", "$chat", False),
        ("alice", "$inbox:alice", True),
        ("alice", "$inbox:alicea", False),
        ("bob", "$inbox:alice", False),
        ("alice", "news", True),
        ("alice", "news:x", False),
        ("alice", "", False),
    ],
)
def test_patterns(user: str, channel: str, expected: bool) -> None:
    """A pattern is a whole name, or a beginning if it ends in a star; the user's name is put in."""
    assert expected is by_pattern(("$chat:*", "$inbox:{user}", "news"))(user, channel)
