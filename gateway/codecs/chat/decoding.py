"""Frames of a chat client to requests: JSON objects, plain text, and lines that begin with a slash."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec

from gateway.codecs._json import mend_surrogates
from gateway.codecs._plain import Auth, Ping, explain, read

MESSAGE_LIMIT: Final = 16 * 1024  # bytes of UTF-8 in one message
HISTORY_LIMIT: Final = 100

HELP: Final = """\
Plain text is said to the room. Lines that begin with / do more:
/pm <user> <text>  say it to one user only
/users             who is here
/history           the last messages
/help              this"""

_Room: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_.-]{1,64}\Z")]


class _Said(msgspec.Struct, kw_only=True):
    """What somebody says; these fields are the server's to set."""

    sender: object = None
    user: object = None
    client: object = None
    info: object = None
    offset: object = None
    epoch: object = None
    tags: object = None

    @property
    def forged(self) -> bool:
        """Whether it names what only the server sets."""
        named = self.sender is self.user is self.client is self.info is None
        return not (named and self.offset is self.epoch is self.tags is None)


class Chat(_Said, tag_field="type", tag="chat"):
    """Say something to a room."""

    message: str
    room: _Room | None = None


class PrivateChat(_Said, tag_field="type", tag="private_chat"):
    """Say something to one user."""

    target_user: Annotated[str, msgspec.Meta(min_length=1)]
    message: str


class History(msgspec.Struct, tag_field="type", tag="history"):
    """Show the last messages; more than are kept is not an error."""

    limit: Annotated[int, msgspec.Meta(ge=0)] = HISTORY_LIMIT
    room: _Room | None = None


class Users(msgspec.Struct, tag_field="type", tag="users"):
    """Show who is in a room."""

    room: _Room | None = None


class Join(msgspec.Struct, tag_field="type", tag="join"):
    """Enter one more room; `since` is the id of the last message seen there."""

    room: _Room
    since: str | None = None


class Leave(msgspec.Struct, tag_field="type", tag="leave"):
    """Go out of a room."""

    room: _Room


class Help(msgspec.Struct):
    """Show what one can type."""


_Json: TypeAlias = Auth | Chat | PrivateChat | History | Users | Join | Leave | Ping
Request: TypeAlias = _Json | Help

_REQUEST: Final[msgspec.json.Decoder[_Json]] = msgspec.json.Decoder(_Json)


class BadMessage(Exception):  # noqa: N818 - it never leaves the codec
    """A message that is answered with an error: its type, if it can be told, and why."""

    def __init__(self, request: str | None, why: str) -> None:
        super().__init__(why)
        self.request = request
        self.why = why


def parse(payload: bytes, text: bool) -> Request:
    """Turn the UTF-8 of one frame into a request. Raises BadMessage."""
    if payload.startswith(b"{") or not text:
        return _parse_json(mend_surrogates(payload))
    line = payload.decode()
    return _parse_slash(line) if line.startswith("/") else Chat(line)


def _parse_json(payload: bytes) -> Request:
    try:
        return read(_REQUEST, payload)
    except msgspec.DecodeError as error:
        raise BadMessage(*explain(payload, error)) from None


def _parse_slash(line: str) -> Request:
    word, _, rest = line.strip().partition(" ")
    match word:
        case "/pm":
            target, _, message = rest.strip().partition(" ")
            if not message:
                raise BadMessage("private_chat", "say /pm <user> <text>")
            return PrivateChat(target, message.lstrip())
        case "/users":
            return Users()
        case "/history":
            return History()
        case "/help":
            return Help()
        case _:
            raise BadMessage("chat", f"unknown command {word[:64]}: try /help")
