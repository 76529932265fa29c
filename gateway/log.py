"""Logs as events with fields: JSON lines, or coloured ones on a terminal; nothing secret, nothing that forges lines."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, Literal, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_SECRET_KEYS: Final = re.compile(
    r"(^|[_.-])(token|ticket|password|secret([_-]?key)?|private[_-]?key|authorization|cookie|api[_-]?key|query|query_string|subprotocols?|"
    r"sec[_-]websocket[_-]protocol)$",
    re.IGNORECASE,
)
_JWT: Final = re.compile(r"eyJ[\w-]*(?:\.[\w-]*)*|\be[wy][\w-]{6,}\.[\w-]{4,}(?:\.[\w-]*)*")
_QUERY: Final = re.compile(r"\?[^\s\"'<>?]*=[^\s\"'<>]*")
_PARAMETER: Final = re.compile(r"\b(token|ticket|password|access_token)=[^\s&\"'<>]+", re.IGNORECASE)
_URL_PASSWORD: Final = re.compile(r"(://[^\s/:@]*):[^\s/@]+@")
_PLAIN: Final = re.compile(r"[\w :.+-]*", re.ASCII)  # nothing above or below is in such a text, but perhaps a JWT
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_CONTROL_IN_TEXT: Final = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_LONGEST: Final = 2_000
_LONGEST_TRACEBACK: Final = 20_000
_DEEPEST: Final = 5
_LARGEST: Final = 2**63  # of an integer in our JSON writer


def configure(
    level: str = "info", style: Literal["auto", "json", "console"] = "auto", *, stream: TextIO | None = None
) -> None:
    """Set up all logging of this process, uvicorn's and Python's warnings included; may be called again.

    `stream` is standard output unless given; `auto` means console on a terminal and JSON elsewhere.
    """
    out = stream or sys.stdout
    console = style == "console" or (style == "auto" and out.isatty())
    threshold = logging.CRITICAL + 1 if level == "none" else logging.getLevelNamesMapping()[level.upper()]
    chain: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    last: list[Processor] = [_to_json]
    if console:
        last = [_indent_traceback, structlog.dev.ConsoleRenderer(colors=out.isatty())]
    structlog.configure(
        processors=[_drop] if level == "none" else [*chain, *last],
        wrapper_class=structlog.make_filtering_bound_logger(min(threshold, logging.CRITICAL)),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    _route_stdlib(out, threshold, chain, last)


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Take out what is secret or would forge a line, from every value however deep (a structlog processor).

    Gone are values under secret names, anything like a JWT, query strings and passwords in URLs; control characters
    are escaped. What is left is JSON's own types.
    """
    internal = {name: event.pop(name) for name in ("_record", "_from_structlog") if name in event}
    cleaned: EventDict = {_clean_name(name): _clean(name, value, 0) for name, value in event.items()}
    cleaned.update(internal)
    return cleaned


def _clean(name: str, value: object, depth: int) -> object:
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < _LARGEST):
        return value
    if _is_secret(name):
        return "[redacted]"
    if type(value) is str:
        return _clean_traceback(value) if name == "exception" else _clean_text(value)
    if depth >= _DEEPEST:
        return "[...]"
    if isinstance(value, Mapping):
        return {_clean_text(str(key)): _clean(str(key), it, depth + 1) for key, it in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(name, it, depth + 1) for it in value]
    return _clean_text(value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value))


def _clean_text(text: str) -> str:
    text = text[:_LONGEST]
    if _PLAIN.fullmatch(text) and "ey" not in text and "ew" not in text:
        return text  # as most are; who closes two thousand connections at once waits for as many lines
    return _CONTROL.sub(_escape, _hide(text))


_clean_name = lru_cache(512)(_clean_text)  # few, and ours


@lru_cache(512)
def _is_secret(name: str) -> bool:
    return _SECRET_KEYS.search(name) is not None


def _clean_traceback(text: str) -> str:
    return _CONTROL_IN_TEXT.sub(_escape, _hide(text[-_LONGEST_TRACEBACK:]))


def _hide(text: str) -> str:
    text = _URL_PASSWORD.sub(r"\1:[redacted]@", text)
    text = _QUERY.sub("?[redacted]", text)
    text = _PARAMETER.sub(r"\1=[redacted]", text)
    return _JWT.sub("[redacted]", text)


def _escape(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode()


def _drop(_logger: WrappedLogger, _method: str, _event: EventDict) -> EventDict:
    raise structlog.DropEvent


def _indent_traceback(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if "exception" in event:  # a line of an exception's text cannot pass for a line of ours
        event["exception"] = "  " + event["exception"].replace("\n", "\n  ")
    return event


def _to_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return orjson.dumps(event, option=orjson.OPT_NON_STR_KEYS).decode()


def _route_stdlib(out: TextIO, threshold: int, chain: list[Processor], last: list[Processor]) -> None:
    handler = logging.StreamHandler(out)
    meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    foreign = [*chain[:-1], structlog.stdlib.add_logger_name, chain[-1]]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=[meta, *last], foreign_pre_chain=foreign))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(threshold)
    logging.captureWarnings(capture=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("uvicorn.access").disabled = True  # it would log query strings; ours is one line per connection
    for name in ("httpx", "httpcore"):  # a line per fetch of the keys says nothing, and holds a URL
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("websockets").setLevel(logging.INFO)  # below it prints payloads
