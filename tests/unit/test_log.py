from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Literal

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from gateway.log import _CONTROL, _clean_text, _escape, _hide, configure
from tests.support.logs import logging_as_before

JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.fixture(name="out", autouse=True)
def _out() -> Iterator[io.StringIO]:
    with logging_as_before():
        yield io.StringIO()


def fail(text: str) -> None:
    """Raise."""
    raise ValueError(text)


def lines(out: io.StringIO) -> list[dict[str, object]]:
    """Parse what was logged as JSON lines."""
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_an_event_is_one_json_line_with_its_fields(out: io.StringIO) -> None:
    """Machines read event, level, time and fields as they were given."""
    configure("info", "json", stream=out)
    structlog.get_logger().info("connection.closed", code=3008, sent=1.5, clean=False, why=None)
    (line,) = lines(out)
    assert str(line.pop("timestamp")).endswith("Z")
    expected = {"event": "connection.closed", "level": "info", "code": 3008, "sent": 1.5, "clean": False, "why": None}
    assert expected == line


@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("detail", f"verify {JWT} failed"),
        ("detail", JWT[:20]),
        ("detail", ["a", {"b": JWT.encode()}]),
        ("detail", "GET /ws?token=s3cret HTTP/1.1"),
        ("detail", "http://host/connect?a=1&ticket=s3cret"),
        ("detail", "ticket=s3cret"),
        ("detail", "GET /chat?room=s3cret HTTP/1.1"),
        ("detail", "redis://user:s3cret@host:6379/0"),
        ("detail", ValueError("connect redis://:s3cret@host")),
        ("detail", "ewogICJhbGciOiAiSFMyNTYiIH0.s3cret99.s3cret"),
        ("token", "s3cret"),
        ("client_token", "s3cret"),
        ("headers", {"Authorization": "s3cret", "x-api-key": b"s3cret", "Sec-WebSocket-Protocol": "s3cret"}),
        ("query_string", b"s3cret"),
        ("hmac_secret_key", "s3cret"),
    ],
)
def test_secrets_are_taken_out(out: io.StringIO, style: Literal["json", "console"], field: str, value: object) -> None:
    """Tokens, tickets, query strings and passwords reach no log, by whatever field and however deep."""
    configure("info", style, stream=out)
    structlog.get_logger().info("event", **{field: value})
    assert "s3cret" not in out.getvalue()
    assert "eyJ" not in out.getvalue()
    assert "redacted" in out.getvalue()


@given(st.text(st.sampled_from("eyJwW.-_ :+?=&@/aZ09\x1b\u202e"), max_size=40))
def test_the_short_way_leaves_nothing_that_the_long_one_takes_out(text: str) -> None:
    """Text that is passed on unread is text in which nothing would have been found."""
    assert _CONTROL.sub(_escape, _hide(text)) == _clean_text(text)


def test_secrets_in_the_event_itself_are_taken_out(out: io.StringIO) -> None:
    """Also where somebody built the event's text from data."""
    configure("info", "json", stream=out)
    structlog.get_logger().info(f"got {JWT}")
    assert "got [redacted]" == lines(out)[0]["event"]


def test_harmless_text_stays(out: io.StringIO) -> None:
    """Questions, addresses and words that look a little like tokens are not touched."""
    configure("info", "json", stream=out)
    text = "did you mean this? host.example.org:8000 gateway.engines.redis.subscriptions a=b key.py"
    structlog.get_logger().info(text)
    assert text == lines(out)[0]["event"]


@pytest.mark.parametrize("style", ["json", "console"])
def test_control_characters_cannot_forge_a_line(out: io.StringIO, style: Literal["json", "console"]) -> None:
    """Line ends, terminal escapes and direction marks of a user's text are shown, not obeyed."""
    configure("info", style, stream=out)
    structlog.get_logger().info("joined", user="a\r\nb\x1b[31m\u2028\u202e\x85\ud800")
    assert 1 == len(out.getvalue().splitlines())
    assert not {"\x1b", "\u202e", "\u2028", "\x85"} & set(out.getvalue())
    assert "\\x1b[31m" in out.getvalue().replace("\\\\", "\\")


@pytest.mark.parametrize("style", ["json", "console"])
def test_an_exception_shows_where_and_not_what_is_secret(out: io.StringIO, style: Literal["json", "console"]) -> None:
    """A traceback is there, its text is cleaned, and its lines cannot pass for lines of the log."""
    configure("info", style, stream=out)
    try:
        fail(f"{JWT}\n2026-01-01 [info] forged\x1b[0m")
    except ValueError:
        structlog.get_logger().exception("bug.met")
    shown = out.getvalue()
    assert "test_log.py" in shown
    assert "ValueError: [redacted]" in shown
    assert "\x1b[0m" not in shown
    assert not [line for line in shown.splitlines()[1:] if not line.startswith("  ")]


def test_other_libraries_log_through_the_same_rules(out: io.StringIO) -> None:
    """Records of uvicorn and asyncio come as JSON, cleaned, with the name of their logger."""
    configure("info", "json", stream=out)
    logging.getLogger("uvicorn.error").info('%s - "WebSocket %s" [accepted]', "127.0.0.1:1", "/ws?token=s3cret")
    (line,) = lines(out)
    assert ("uvicorn.error", "info") == (line["logger"], line["level"])
    assert "s3cret" not in out.getvalue()


def test_the_access_log_of_uvicorn_is_off(out: io.StringIO) -> None:
    """Requests are logged by us, once and without query strings."""
    configure("debug", "json", stream=out)
    logging.getLogger("uvicorn.access").info("GET /ws?token=s3cret")
    assert "" == out.getvalue()


def test_warnings_of_python_are_logged(out: io.StringIO) -> None:
    """A deprecation in production shows in the log, not on a stream nobody reads."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        configure("info", "json", stream=out)
        warnings.warn("old", stacklevel=1)
    assert "py.warnings" == lines(out)[0]["logger"]


@pytest.mark.parametrize(("level", "shown"), [("debug", 3), ("info", 2), ("critical", 1), ("none", 0)])
def test_levels_hold_for_all(out: io.StringIO, level: str, shown: int) -> None:
    """Events under the level are not shown, by structlog or by logging; `none` shows nothing at all."""
    configure(level, "json", stream=out)
    log = structlog.get_logger()
    log.debug("a")
    log.info("b")
    log.critical("c")
    assert shown == len(lines(out))
    logging.getLogger("other").log(logging.INFO, "b")
    assert shown + (level in ("debug", "info")) == len(lines(out))
    logging.getLogger("other").critical("c")
    assert shown + (level in ("debug", "info")) + (level != "none") == len(lines(out))


def test_auto_is_coloured_on_a_terminal_and_json_elsewhere(out: io.StringIO) -> None:
    """People see colours, collectors see JSON, without a setting."""
    terminal = Terminal()
    configure(stream=terminal)
    structlog.get_logger().info("event")
    assert "\x1b[" in terminal.getvalue()
    configure(stream=out)
    structlog.get_logger().info("event")
    assert "event" == lines(out)[0]["event"]


def test_odd_values_do_not_break_a_line(out: io.StringIO) -> None:
    """What JSON has no words for is logged as text, long things are cut, deep things end."""
    deep: list[object] = []
    deep.append(deep)
    configure("info", "json", stream=out)
    structlog.get_logger().info("event", huge=2**70, deep=deep, long="x" * 100_000, obj=object, keys={1: "a"})
    (line,) = lines(out)
    assert str(2**70) == line["huge"]
    assert {"1": "a"} == line["keys"]
    assert len(out.getvalue()) < 5000
