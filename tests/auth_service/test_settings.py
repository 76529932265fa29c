"""Settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from auth_service.errors import OperatorError
from auth_service.settings import load
from auth_service.variables import PASSWORD_VARIABLE


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
    monkeypatch.setenv("AUTH_KEY_DIR", "variable")
    settings = load(database_url="sqlite:///flag.db", key_dir=None)
    assert ("sqlite:///flag.db", Path("variable")) == (settings.database_url, settings.key_dir)


def test_the_database_may_stand_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file wins over the variable, so that no password has to be in the environment, and a flag over both."""
    file = tmp_path / "url"
    file.write_text("sqlite:///file.db\n", encoding="utf-8")
    monkeypatch.setenv("AUTH_DATABASE_URL", "sqlite:///variable.db")
    monkeypatch.setenv("AUTH_DATABASE_URL_FILE", str(file))
    assert "sqlite:///file.db" == load().database_url
    assert "sqlite:///flag.db" == load(database_url="sqlite:///flag.db").database_url


@pytest.mark.parametrize(("content", "why"), [(None, "No such file or directory"), (b"\xff", "is no text")])
def test_a_file_that_cannot_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, why: str
) -> None:
    """One line says which file it is; nothing falls back to the default database."""
    file = tmp_path / "url"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("AUTH_DATABASE_URL_FILE", str(file))
    with pytest.raises(OperatorError, match=rf"^AUTH_DATABASE_URL_FILE: .*/url: {why}$"):
        load()


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


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("AUTH_CORS_ORIGINS", "*", "'*' is not an origin such as"),
        ("AUTH_CORS_ORIGINS", "https://a/path", "'https://a/path' is not an origin"),
        ("AUTH_CORS_ORIGINS", "https://*.a", "'https://*.a' is not an origin"),
        ("AUTH_CORS_ORIGINS", "null", "'null' is not an origin"),
        ("AUTH_TRUSTED_PROXIES", "*", "'*' does not appear to be an IPv4 or IPv6 network; name networks"),
        ("AUTH_TRUSTED_PROXIES", "10.1.2.3/8", "10.1.2.3/8 has host bits set"),
    ],
)
def test_what_would_open_too_much_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str, line: str) -> None:
    """Patterns of origins, whose pages could use everybody's cookies; proxies that are no networks."""
    monkeypatch.setenv(name, value)
    with pytest.raises(OperatorError, match=re.escape(f"{name}: {line}")):
        load()


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("AUTH_DATABSE_URL", "; did you mean AUTH_DATABASE_URL?"),
        ("AUTH_KEY_FILE", "; did you mean AUTH_KEY_DIR?"),
        ("AUTH_COR_ORIGINS", "; did you mean AUTH_CORS_ORIGINS?"),
        ("AUTH_XYZZY", ""),
        ("AUTH_PORTAL", ""),
    ],
)
def test_misspelt_variables_are_named(monkeypatch: pytest.MonkeyPatch, name: str, near: str) -> None:
    """With the setting that was most likely meant; all at once, and beside values that are wrong."""
    monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AUTH_ISSUER", "")
    with pytest.raises(OperatorError) as caught:
        load()
    first, second = str(caught.value).split("; AUTH_ISSUER: ")
    assert second
    assert first.startswith(f"{name}: no such setting")
    if near:
        assert first.endswith(near)


def test_the_password_of_a_command_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may stand in the environment of any command."""
    monkeypatch.setenv(PASSWORD_VARIABLE, "x")
    assert load() == load()


def test_kubernetes_does_not_configure_us(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that Kubernetes injects for a Service named `auth` are no settings of ours."""
    ours = ("AUTH_PORT", "AUTH_PORT_8001_TCP", "AUTH_PORT_8001_TCP_ADDR", "AUTH_SERVICE_HOST", "AUTH_SERVICE_PORT")
    another = ("AUTH_DB_SERVICE_HOST", "AUTH_DB_SERVICE_PORT_POSTGRES", "AUTH_DB_PORT_5432_TCP_PROTO")
    for name in (*ours, *another):
        monkeypatch.setenv(name, "tcp://10.0.0.1:8001")
    assert load() == load()
