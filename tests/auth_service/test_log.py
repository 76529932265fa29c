"""Lines of the log: JSON or for people, from whichever library, without secrets."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from auth_service import log
from auth_service.store.engines import serving
from tests.support.logs import logging_as_before
from tests.unit.test_log import JWT

REFRESH = "rt_" + "Ab-_" * 11
HASH = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b/dWRWJTmaaJObG"


class Terminal(io.StringIO):
    """A stream that people look at."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.fixture(name="configured")
def _configured() -> Iterator[Callable[[io.StringIO], io.StringIO]]:
    """Log to a stream, and put everything back afterwards."""

    def configure(stream: io.StringIO) -> io.StringIO:
        log.configure(stream=stream)
        return stream

    with logging_as_before():
        yield configure


def written(stream: io.StringIO) -> list[dict[str, Any]]:
    """Return the events of a stream of JSON lines."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"token": "x"}, {"token": "[redacted]"}),
        ({"refresh_token": "x", "api-key": "y"}, {"refresh_token": "[redacted]", "api-key": "[redacted]"}),
        ({"why": f"bad {JWT}"}, {"why": "bad [redacted]"}),
        ({"why": f"bad {REFRESH}!"}, {"why": "bad [redacted]!"}),
        ({"why": f"hash {HASH}"}, {"why": "hash [redacted]"}),
        ({"why": "Authorization: Bearer abc.d"}, {"why": "Authorization: Bearer [redacted]"}),
        ({"url": "postgresql://u:pw@db/x?sslmode=a"}, {"url": "postgresql://u:[redacted]@db/x?[redacted]"}),
        ({"why": "refresh_token=abc&x"}, {"why": "refresh_token=[redacted]&x"}),
        ({"deep": {"list": [{"password": "x"}, JWT]}}, {"deep": {"list": [{"password": "[redacted]"}, "[redacted]"]}}),
        ({"why": b"\xff\n\x1b[31m"}, {"why": "\\xff\\n\\x1b[31m"}),
        ({"number": 1.5, "none": None, "tokens": 3}, {"number": 1.5, "none": None, "tokens": 3}),
    ],
)
def test_secrets_are_taken_out(
    configured: Callable[[io.StringIO], io.StringIO], fields: dict[str, Any], expected: dict[str, Any]
) -> None:
    """By name, by looks, however deep; and each line is one line."""
    out = configured(io.StringIO())
    structlog.get_logger().info("some.event", **fields)
    (line,) = written(out)
    assert {"event": "some.event", "level": "info", **expected} == {k: v for k, v in line.items() if k != "timestamp"}


def test_an_object_that_holds_itself_ends() -> None:
    """Depth is bounded."""
    endless: list[Any] = []
    endless.append(endless)
    assert "[...]" in str(log.redact(None, "", {"it": endless}))


def broken(password: str) -> None:
    """Fail with secrets in hand, and in what is said."""
    raise ValueError(f"{len(password)} letters, sent {JWT}\nforged")


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_a_trace_shows_no_values(
    configured: Callable[[io.StringIO], io.StringIO], stream: Callable[[], io.StringIO]
) -> None:
    """On a terminal too there are no local variables in it, and what an exception says is cleaned."""
    out = configured(stream())
    try:
        broken("elpatsyrettab"[::-1])
    except ValueError:
        structlog.get_logger().exception("some.event")
    assert "13 letters, sent [redacted]" in out.getvalue()
    assert "batterystaple" not in out.getvalue()
    assert "\nforged" not in out.getvalue().replace("\\nforged", "")


def test_libraries_log_through_us(configured: Callable[[io.StringIO], io.StringIO]) -> None:
    """Python's logging and its warnings come in our form, cleaned; chatter below a warning does not come."""
    out = configured(io.StringIO())
    logging.getLogger("uvicorn.error").error("failed with %s", JWT)
    logging.getLogger("httpx").info("GET http://127.0.0.1/?token=x")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("odd", stacklevel=1)
    first, second = written(out)
    assert ("failed with [redacted]", "error", "uvicorn.error") == (first["event"], first["level"], first["logger"])
    assert ("warning", "py.warnings") == (second["level"], second["logger"])


async def test_a_failing_statement_names_nobody(tmp_path: Path) -> None:
    """What the database says of it has no values in it: names, hashes of passwords."""
    engine, _ = serving(f"sqlite:///{tmp_path}/auth.db")
    statement = text("SELECT * FROM nowhere WHERE name = :name")
    async with engine.connect() as connection:
        with pytest.raises(SQLAlchemyError) as failed:
            await connection.execute(statement, {"name": "alice-was-here"})
    await engine.dispose()
    assert "no such table" in str(failed.value)
    assert "alice-was-here" not in str(failed.value)
