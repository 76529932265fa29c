"""Logs to standard error: lines on a terminal, JSON elsewhere; nothing secret, nothing that forges lines."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_SECRET_NAMES: Final = re.compile(
    r"(^|[_.-])(token|ticket|password|pepper|secret([_-]?key)?|private[_-]?key|authorization|cookie|api[_-]?key|query)$",
    re.IGNORECASE,
)
_TOKEN: Final = re.compile(r"eyJ[\w-]*(?:\.[\w-]*)*|\brt_[\w-]{20,}|\$argon2[\w$=,+/.-]+")
_QUERY: Final = re.compile(r"\?[^\s\"'<>?]*=[^\s\"'<>]*")
_PARAMETER: Final = re.compile(r"\b(\w*(?:token|ticket|password))=[^\s&\"'<>]+", re.IGNORECASE)
_BEARER: Final = re.compile(r"\b(bearer|apikey) [\w.~+/=-]+", re.IGNORECASE)
_URL_PASSWORD: Final = re.compile(r"(://[^\s/:@]*):[^\s/@]+@")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_CONTROL_IN_TEXT: Final = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_LONGEST: Final = 2_000
_LONGEST_TRACEBACK: Final = 20_000
_DEEPEST: Final = 5

# below these they say nothing that ours do not, and some of it holds URLs
_QUIET: Final = ("uvicorn", "httpx", "httpcore", "aiosqlite", "sqlalchemy", "alembic")


def configure(*, stream: TextIO | None = None) -> None:
    """Set up all logging of this process, Python's own and its warnings included; called by the command line only.

    `stream` is standard error unless given.
    """
    out = stream or sys.stderr
    terminal = out.isatty()
    chain: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,  # plain: a traceback with local variables would show passwords
        redact,
    ]
    last: list[Processor] = [_indent_traceback, structlog.dev.ConsoleRenderer()]
    if not terminal:
        last = [structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[*chain, *last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    _route_stdlib(out, chain, last)


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Take out what is secret or would forge a line, from every value however deep (a structlog processor).

    Gone are values under secret names, whatever looks like a token or a hash of a password, query strings and
    passwords in URLs; control characters are escaped. What is left is JSON's own types.
    """
    internal = {name: event.pop(name) for name in ("_record", "_from_structlog") if name in event}
    cleaned: EventDict = {_clean_text(name): _clean(name, value, 0) for name, value in event.items()}
    cleaned.update(internal)
    return cleaned


def _clean(name: str, value: object, depth: int) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if _SECRET_NAMES.search(name):
        return "[redacted]"
    if depth >= _DEEPEST:
        return "[...]"
    if isinstance(value, Mapping):
        return {_clean_text(str(key)): _clean(str(key), it, depth + 1) for key, it in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(name, it, depth + 1) for it in value]
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    if name == "exception":
        return _CONTROL_IN_TEXT.sub(_escape, _hide(text[-_LONGEST_TRACEBACK:]))
    return _clean_text(text)


def _clean_text(text: str) -> str:
    return _CONTROL.sub(_escape, _hide(text[:_LONGEST]))


def _hide(text: str) -> str:
    text = _URL_PASSWORD.sub(r"\1:[redacted]@", text)
    text = _QUERY.sub("?[redacted]", text)
    text = _PARAMETER.sub(r"\1=[redacted]", text)
    text = _BEARER.sub(r"\1 [redacted]", text)
    return _TOKEN.sub("[redacted]", text)


def _escape(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode()


def _indent_traceback(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if "exception" in event:  # a line of an exception's text cannot pass for a line of ours
        event["exception"] = "  " + event["exception"].replace("\n", "\n  ")
    return event


def _route_stdlib(out: TextIO, chain: list[Processor], last: list[Processor]) -> None:
    handler = logging.StreamHandler(out)
    meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    foreign = [*chain[:-1], structlog.stdlib.add_logger_name, chain[-1]]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=[meta, *last], foreign_pre_chain=foreign))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(capture=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
