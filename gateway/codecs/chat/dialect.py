"""The chat conversation of one connection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, assert_never

from gateway.codecs._json import dump
from gateway.codecs._listening import RECENT, ListeningDialect
from gateway.codecs._plain import Asked, Auth, Ping, check_utf8, parse_since
from gateway.codecs.chat import decoding, encoding
from gateway.codecs.chat.decoding import MESSAGE_LIMIT, BadMessage, Request
from gateway.errors import BAD_REQUEST
from gateway.protocol import messages
from gateway.protocol.messages import Command, ConnectResult, Push, Result, SubscribeResult
from gateway.protocol.values import Encoded, Hello
from gateway.types import Channel, ConnectionId, UserId

_LOBBY: Final = "lobby"
_HELP: Final = dump({"type": "help", "content": decoding.HELP})


class ChatDialect(ListeningDialect):
    """A client in one room or more; what names no room goes to the one of its path."""

    __slots__ = ("_client", "_node", "_user")
    watching = True

    def __init__(self, hello: Hello) -> None:
        super().__init__(hello, _channel(hello.room or _LOBBY))
        self._user = UserId("")
        self._client = ConnectionId("")
        self._node = ""

    # --- commands

    def _commands(self, payload: bytes, text: bool) -> Sequence[Command]:
        check_utf8(payload)
        try:
            return self._command(decoding.parse(payload, text))
        except BadMessage as bad:
            raise self._refuse(BAD_REQUEST.saying(bad.why), bad.request) from None

    def _command(self, request: Request) -> Sequence[Command]:
        """Raises BadMessage."""
        match request:
            case decoding.Chat(message, room):
                return self._say(message, self._channel_of(room), forged=request.forged)
            case decoding.PrivateChat(target, message):
                return (self._whisper(UserId(target), message, forged=request.forged),)
            case decoding.Join(room, since):
                return (self._join(_channel(room), since),)
            case decoding.Leave(room):
                return (messages.Unsubscribe(self._ask(Asked("leave")), _channel(room)),)
            case _:
                return (self._question(request),)

    def _question(self, request: Auth | Ping | decoding.Users | decoding.History | decoding.Help) -> Command:
        match request:
            case decoding.Users(room):
                return messages.Members(self._ask(Asked("users")), self._channel_of(room))
            case decoding.History(limit, room):
                return self._history(self._channel_of(room), Asked("history"), limit)
            case Auth(token):
                return messages.Refresh(self._ask(Asked("auth")), token)
            case Ping():
                return messages.Ping(self._ask(Asked("ping")))
            case decoding.Help():
                return messages.Echo(self._ask(Asked("help")), _HELP, text=True)
            case _:
                assert_never(request)

    def _say(self, message: str, channel: Channel, *, forged: bool) -> Sequence[Command]:
        if not message or message.isspace():
            return (messages.Nothing(),)
        data = _said(message, "chat")
        return (messages.Publish(self._ask(Asked("chat")), channel, data, forged),)

    def _whisper(self, target: UserId, message: str, *, forged: bool) -> Command:
        if not message or message.isspace():
            raise BadMessage("private_chat", "the message is blank")
        data = _said(message, "private_chat")
        return messages.Message(self._ask(Asked("private_chat")), target, data, forged)

    def _join(self, channel: Channel, since: str | None) -> Command:
        position = parse_since(since) if since else None
        if since and position is None:
            raise BadMessage("join", '"since" is not the id of a message')
        return self._subscribe(Asked("join", channel), position, RECENT)

    def _history(self, channel: Channel, asked: Asked, limit: int = decoding.HISTORY_LIMIT) -> Command:
        limit = min(limit, decoding.HISTORY_LIMIT)
        return messages.History(self._ask(asked), channel, limit, reverse=True, ours=asked.entry)

    def _channel_of(self, room: str | None) -> Channel:
        return self._channel if room is None else _channel(room)

    # --- replies and pushes

    def _connected(self, result: ConnectResult) -> Encoded:
        self._user, self._client, self._node = result.user, result.client, result.node
        shown = super()._connected(result)
        shown.commands = [
            self._history(sub.channel, Asked("history", entry=True))
            for sub in result.subs
            if self._shows(sub.channel) and not sub.recovered
        ]
        return shown

    def _shows(self, channel: Channel) -> bool:
        return channel.startswith(encoding.ROOM)

    def _push(self, push: Push) -> bytes | None:
        return encoding.encode_push(push)

    def _welcome(self, channel: Channel) -> Iterator[bytes]:
        room = encoding.room_of(channel)
        who = {"user": self._user, "room": room, "client": self._client, "node": self._node}
        yield dump({"type": "welcome", **who})

    def _caught_up(self, result: SubscribeResult) -> Iterator[bytes]:
        if result.publications:
            epoch = "" if result.position is None else result.position.epoch
            room = encoding.room_of(result.channel)
            yield encoding.history(room, result.publications, epoch, recovered=result.recovered)

    def _gap(self, channel: Channel) -> bytes:
        return encoding.gap(channel)

    def _left(self, channel: Channel) -> bytes:
        return encoding.left(channel)

    def _result(self, result: Result, asked: Asked) -> Iterator[bytes]:
        match result:
            case messages.HistoryResult(channel, publications, top):
                if publications or not asked.entry:
                    yield encoding.history(encoding.room_of(channel), reversed(publications), top.epoch)
            case messages.MembersResult(channel, users):
                yield encoding.users(channel, users)
            case messages.MessageResult(target, delivered):
                yield dump({"type": "private_chat_sent", "target": target, "delivered": delivered})
            case messages.RefreshResult(ttl=ttl):
                yield dump({"type": "refreshed", "expires_in": ttl})
            case messages.PingResult():
                yield b'{"type":"pong"}'
            case messages.EchoResult(payload):
                yield payload
            case _:  # a publication is confirmed by itself; the rest is not asked for here
                return


def _channel(room: str) -> Channel:
    return Channel(encoding.ROOM + room)


def _said(message: str, request: str) -> bytes:
    """Return the data of a message. Raises BadMessage."""
    if len(message.encode()) > MESSAGE_LIMIT:
        raise BadMessage(request, f"a message may have {MESSAGE_LIMIT} bytes")
    return b'{"message":%b}' % dump(message)
