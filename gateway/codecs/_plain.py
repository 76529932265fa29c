"""What the plain protocols share: who asked what, the first message, errors, positions and times as text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final, NamedTuple, TypeVar

import msgspec
import orjson

from gateway.codecs._json import dump
from gateway.disconnects import BAD_REQUEST, INVALID_UTF8, Disconnect
from gateway.errors import DecodeError, ErrorReply
from gateway.protocol.messages import Command, Connect, Push, Reply
from gateway.protocol.values import Encoded, Hello, PresentedToken
from gateway.types import Channel, Position, Publication

T = TypeVar("T")

_LAST_SECOND: Final = 253_402_300_799  # of the year 9999
_SHOWN: Final = 64  # characters of a client's own text that an error repeats
_MAX_DIGITS: Final = 18  # an offset stays within 64 bits
_MAX_EPOCH: Final = 64

UNKNOWN_POSITION: Final = Position(0, "_")  # recovers nothing: the client is told of the gap


class Auth(msgspec.Struct, tag_field="type", tag="auth"):
    """Identify, or refresh the token."""

    token: Annotated[str, msgspec.Meta(min_length=1)]


class Ping(msgspec.Struct, tag_field="type", tag="ping"):
    """Are you there?"""


class _Typed(msgspec.Struct):
    type: str


_AUTH: Final = msgspec.json.Decoder(Auth)
_TYPED: Final = msgspec.json.Decoder(_Typed)


class Asked(NamedTuple):
    """What a ref stands for: the type of the message, and for a subscription what it is to be shown as."""

    request: str | None
    channel: Channel = Channel("")
    entry: bool = False  # asked by the handshake
    again: bool = False  # asked by the dialect itself, to recover


_FORGOTTEN: Final = Asked(None)


class PlainDialect(ABC):
    """The part of a plain conversation before it is identified, and its refs."""

    __slots__ = ("_anonymous", "_asked", "_identified", "_refs", "_token")
    personal = True  # also subscribe to `#user`

    def __init__(self, hello: Hello) -> None:
        self._token: PresentedToken | None = hello.token
        self._anonymous = hello.anonymous
        self._identified = False
        self._refs = 0
        self._asked: dict[int, Asked] = {}

    def open(self) -> Sequence[Command]:
        """Return what the handshake itself asks for; nothing when the first message has to identify."""
        token, self._token = self._token, None
        if token is not None:
            return self._identify(token.value, ticket=token.way == "ticket")
        return self._identify(None) if self._anonymous else ()

    def decode(self, payload: bytes, text: bool) -> Sequence[Command]:
        """Turn one data frame into commands. Raises DecodeError."""
        if not self._identified:
            return self._identify(_first_token(payload))
        return self._commands(payload, text)

    def farewell(self, disconnect: Disconnect) -> Sequence[bytes]:
        """Return nothing: the close frame says it all."""
        del disconnect
        return ()

    @abstractmethod
    def encode(self, message: Reply | Push) -> Encoded:
        """Encode for this client."""

    @abstractmethod
    def _entry(self) -> tuple[dict[Channel, Position], list[Command]]:
        """Return the positions of the entry channels, and the commands that follow connect."""

    @abstractmethod
    def _commands(self, payload: bytes, text: bool) -> Sequence[Command]:
        """Decode a frame of an identified client."""

    def _identify(self, token: str | None, *, ticket: bool = False) -> list[Command]:
        self._identified = True
        positions, entry = self._entry()
        connect = Connect(self._ask(Asked("auth")), token, ticket, self.personal, subs=positions)
        return [connect, *entry]

    def _ask(self, asked: Asked) -> int:
        self._refs += 1
        self._asked[self._refs] = asked
        return self._refs

    def _answered(self, ref: int) -> Asked:
        return self._asked.pop(ref, _FORGOTTEN)

    def _refuse(self, refusal: ErrorReply, request: str | None) -> DecodeError:
        return DecodeError(refusal, ref=self._ask(Asked(request)))


def _first_token(payload: bytes) -> str:
    """Return the token of an `auth` message. Anything else ends the connection."""
    check_utf8(payload)
    try:
        return _AUTH.decode(payload).token
    except (msgspec.DecodeError, RecursionError):
        raise DecodeError(BAD_REQUEST) from None


def check_utf8(payload: bytes) -> None:
    """Raise DecodeError (1007) unless these bytes are UTF-8; text frames were checked, binary ones were not."""
    try:
        payload.isascii() or payload.decode()
    except UnicodeDecodeError:
        raise DecodeError(INVALID_UTF8) from None


def read(decoder: msgspec.json.Decoder[T], payload: bytes) -> T:
    """Decode a JSON message; raises `msgspec.DecodeError`, for nesting without end too."""
    try:
        return decoder.decode(payload)
    except RecursionError:
        raise msgspec.DecodeError("nested too deeply") from None


def explain(payload: bytes, error: msgspec.DecodeError) -> tuple[str | None, str]:
    """Return the type of a message that could not be decoded, if it can be told, and what is wrong with it."""
    try:
        request = read(_TYPED, payload).type[:_SHOWN]
    except msgspec.ValidationError:
        return None, 'missing "type"'
    except msgspec.DecodeError:
        return None, "broken JSON"
    if str(error).startswith("Invalid value"):  # of the tag
        return request, f'unknown type "{request}"'
    return request, str(error)[: 4 * _SHOWN]


def parse_since(text: str) -> Position | None:
    """Return the position of a publication's id, None when this is not one."""
    offset, _, epoch = text.partition("@")
    if not (offset.isascii() and offset.isdecimal() and len(offset) <= _MAX_DIGITS and 0 < len(epoch) <= _MAX_EPOCH):
        return None
    return Position(int(offset), epoch)


def presented_since(hello: Hello) -> Position | None:
    """Return the position in the query; one that cannot be read recovers nothing, so that the client hears of a gap."""
    text = hello.query.get("since")
    return (parse_since(text) or UNKNOWN_POSITION) if text else None


def publication_id(publication: Publication, epoch: str = "") -> str | None:
    """Return the id by which a client can recover; None on channels without history."""
    return f"{publication.offset}@{publication.epoch or epoch}" if publication.offset else None


def timestamp(time_ms: int) -> bytes:
    """Encode a wall-clock time as an ISO 8601 string in UTC, with milliseconds."""
    seconds, millis = divmod(time_ms, 1000)
    if not 0 <= seconds <= _LAST_SECOND:
        seconds = 0
    moment = orjson.dumps(
        datetime.fromtimestamp(seconds, UTC)
    )  # "2026-11-22T10:00:00+00:00", 3 times faster than isoformat
    return b'%b.%03dZ"' % (moment[:20], millis)


def error_message(error: ErrorReply, request: str | None) -> bytes:
    """Encode an error reply."""
    return dump({"type": "error", "code": error.code, "message": error.message, "request": request})
