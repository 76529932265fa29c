"""Chat messages to bytes; publication data is spliced in as it stands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from gateway.codecs._json import dump, one_line
from gateway.codecs._plain import publication_id, timestamp
from gateway.protocol.messages import (
    ExpiringPush,
    JoinPush,
    LeavePush,
    PublicationPush,
    Push,
    UnsubscribePush,
)
from gateway.types import Channel, Publication, UserId

ROOM: Final = "chat:"  # the namespace of rooms
_PERSONAL: Final = "#"


class _Said(msgspec.Struct):
    """The data of a publication that is a chat message."""

    message: msgspec.Raw


_SAID: Final = msgspec.json.Decoder(_Said)


def room_of(channel: Channel) -> str:
    """Return the room of a channel."""
    return channel.removeprefix(ROOM)


def encode_push(push: Push) -> bytes | None:
    """Encode for everybody who listens; None = chat clients do not see it."""
    match push:
        case PublicationPush(channel, publication) if channel.startswith(ROOM):
            return chat_message(room_of(channel), publication)
        case PublicationPush(channel, publication) if channel.startswith(_PERSONAL):
            return _private_chat_message(channel.removeprefix(_PERSONAL), publication)
        case JoinPush(channel, info, True, time_ms) if channel.startswith(ROOM):
            return _system("joined", info.user, room_of(channel), time_ms)
        case LeavePush(channel, info, True, time_ms) if channel.startswith(ROOM):
            return _system("left", info.user, room_of(channel), time_ms)
        case UnsubscribePush(channel) if channel.startswith(ROOM):
            return left(channel)
        case ExpiringPush(seconds):
            return dump({"type": "expiring", "in": seconds})
        case _:
            return None


def chat_message(room: str, publication: Publication, epoch: str = "") -> bytes:
    """Encode one publication of a room; `epoch` is that of the stream, for publications that name none."""
    return b'{"type":"chat_message","room":%b,"sender":%b,%b,"timestamp":%b,"id":%b}' % (
        dump(room),
        _sender(publication),
        _content(publication.data),
        timestamp(publication.time_ms),
        dump(publication_id(publication, epoch)),
    )


def history(room: str, publications: Iterable[Publication], epoch: str, *, recovered: bool = False) -> bytes:
    """Encode kept publications, oldest first."""
    messages = b",".join(chat_message(room, publication, epoch) for publication in publications)
    end = b',"recovered":true}' if recovered else b"}"
    return b'{"type":"history","room":%b,"messages":[%b]%b' % (dump(room), messages, end)


def users(channel: Channel, members: Sequence[UserId]) -> bytes:
    """Encode who is in a room."""
    return dump({"type": "users", "room": room_of(channel), "users": list(members)})


def left(channel: Channel) -> bytes:
    """Encode that this client is in a room no more."""
    return dump({"type": "left", "room": room_of(channel)})


def gap(channel: Channel) -> bytes:
    """Encode that publications were lost."""
    return dump({"type": "gap", "room": room_of(channel)})


def _private_chat_message(target: str, publication: Publication) -> bytes:
    return b'{"type":"private_chat_message","sender":%b,"target":%b,%b,"timestamp":%b}' % (
        _sender(publication),
        dump(target),
        _content(publication.data),
        timestamp(publication.time_ms),
    )


def _system(event: str, user: UserId, room: str, time_ms: int) -> bytes:
    content = f"User '{user}' has {event} the chat."
    return b'{"type":"system","event":%b,"user":%b,"room":%b,"content":%b,"timestamp":%b}' % (
        dump(event),
        dump(user),
        dump(room),
        dump(content),
        timestamp(time_ms),
    )


def _sender(publication: Publication) -> bytes:
    """Return who published, by the gateway's word and never by the data's."""
    return b"null" if publication.info is None else dump(publication.info.user)


def _content(data: bytes) -> bytes:
    """Return the text of a chat message as member `content`, any other data as member `data`."""
    try:
        message = bytes(_SAID.decode(data).message)
    except (msgspec.DecodeError, RecursionError):
        message = b""
    return b'"content":' + message if message.startswith(b'"') else b'"data":' + one_line(data)
