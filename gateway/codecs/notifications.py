"""Notifications: receive only, for one user and for all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Literal

import msgspec

from gateway.codecs._json import dump, mend_surrogates, one_line
from gateway.codecs._listening import RECENT, ListeningDialect
from gateway.codecs._plain import Asked, Auth, Ping, check_utf8, explain, publication_id, read
from gateway.contracts.codec import Codec
from gateway.errors import BAD_REQUEST, NOT_AVAILABLE
from gateway.protocol import messages
from gateway.protocol.messages import (
    Command,
    ExpiringPush,
    PingResult,
    PublicationPush,
    Push,
    RefreshResult,
    Result,
    SubscribeResult,
    UnsubscribePush,
)
from gateway.protocol.values import Hello
from gateway.types import Channel, Position, Publication

_ALL: Final = Channel("notifications:all")
_PERSONAL: Final = "#"
_KNOWN: Final = frozenset({"auth", "ping"})
_REQUEST: Final[msgspec.json.Decoder[Auth | Ping]] = msgspec.json.Decoder(Auth | Ping)


class NotificationsCodec:
    """Plain JSON objects with a `type`, one a frame, nearly all from the server."""

    name = "notifications"
    subprotocols: tuple[str, ...] = ("notifications",)
    text = True
    heartbeat: Literal["application", "frame"] = "frame"

    def dialect(self, hello: Hello) -> NotificationsDialect:
        """Begin one connection's conversation."""
        return NotificationsDialect(hello)

    def push(self, push: Push) -> bytes | None:
        """Encode for all plain subscribers at once; None = not shown."""
        match push:
            case PublicationPush(channel, publication):
                return _notification(channel, publication)
            case UnsubscribePush(channel) if not channel.startswith(_PERSONAL):
                return _about("left", channel)
            case ExpiringPush(seconds):
                return dump({"type": "expiring", "in": seconds})
            case _:
                return None


class NotificationsDialect(ListeningDialect):
    """A client that only listens."""

    __slots__ = ()
    joining = "auth"  # nothing else is asked by this client

    def __init__(self, hello: Hello) -> None:
        super().__init__(hello, _ALL)

    def _commands(self, payload: bytes, text: bool) -> Sequence[Command]:
        del text
        check_utf8(payload)
        payload = mend_surrogates(payload)
        try:
            request = read(_REQUEST, payload)
        except msgspec.DecodeError as error:
            kind, why = explain(payload, error)
            raise self._refuse(BAD_REQUEST.saying(why) if kind in _KNOWN else NOT_AVAILABLE, kind) from None
        if isinstance(request, Auth):
            return (messages.Refresh(self._ask(Asked("auth")), request.token),)
        return (messages.Ping(self._ask(Asked("ping"))),)

    def _recent(self, since: Position | None) -> int:
        """Who comes for the first time wants new ones; after a gap the newest come, if clients may read history."""
        return 0 if since is None else RECENT

    def _shows(self, channel: Channel) -> bool:
        return not channel.startswith(_PERSONAL)

    def _push(self, push: Push) -> bytes | None:
        return codec.push(push)

    def _welcome(self, channel: Channel) -> Iterator[bytes]:
        del channel
        return iter(())

    def _caught_up(self, result: SubscribeResult) -> Iterator[bytes]:
        epoch = "" if result.position is None else result.position.epoch
        return (_notification(result.channel, publication, epoch) for publication in result.publications)

    def _gap(self, channel: Channel) -> bytes:
        return _about("gap", channel)

    def _left(self, channel: Channel) -> bytes:
        return _about("left", channel)

    def _result(self, result: Result, asked: Asked) -> Iterator[bytes]:
        del asked
        match result:
            case RefreshResult(ttl=ttl):
                yield dump({"type": "refreshed", "expires_in": ttl})
            case PingResult():
                yield b'{"type":"pong"}'
            case _:  # not asked for here
                return


def _notification(channel: Channel, publication: Publication, epoch: str = "") -> bytes:
    return b'{"type":"notification","channel":%b,"data":%b,"id":%b}' % (
        dump(channel),
        one_line(publication.data),
        dump(publication_id(publication, epoch)),
    )


def _about(kind: str, channel: Channel) -> bytes:
    return dump({"type": kind, "channel": channel})


codec: Codec = NotificationsCodec()
