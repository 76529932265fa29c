"""What chat and notifications share: a channel entered by the handshake, and recovery by the dialect itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Final

from gateway.codecs._plain import Asked, PlainDialect, error_message, presented_since
from gateway.errors import ALREADY_SUBSCRIBED, ErrorReply
from gateway.protocol.messages import (
    Command,
    ConnectResult,
    Push,
    Reply,
    Result,
    Subscribe,
    SubscribeResult,
    UnsubscribePush,
    UnsubscribeResult,
)
from gateway.protocol.values import Encoded, Hello
from gateway.types import Channel, Position

RECENT: Final = 100  # newest publications shown when there is nothing to recover, or no way
_COME_BACK: Final = 2500  # unsubscribe codes from here on invite to subscribe again


class ListeningDialect(PlainDialect):
    """A plain conversation that listens to channels and recovers them without the client's help."""

    __slots__ = ("_channel", "_since")
    joining = "join"  # the request that errors of a subscription name
    watching = False  # whether to ask for joins and leaves

    def __init__(self, hello: Hello, channel: Channel) -> None:
        super().__init__(hello)
        self._channel = channel
        self._since = presented_since(hello)

    def encode(self, message: Reply | Push) -> Encoded:
        """Encode for this client; the loss of a position is followed by a subscription that recovers."""
        if not isinstance(message, Reply):
            if isinstance(message, UnsubscribePush) and message.code >= _COME_BACK and self._shows(message.channel):
                asked = Asked(self.joining, message.channel, again=True)
                return Encoded(commands=(self._subscribe(asked, message.position, RECENT),))
            payload = self._push(message)
            return Encoded() if payload is None else Encoded((payload,))
        asked = self._answered(message.ref)
        match message.result:
            case ErrorReply() as error:
                return Encoded(tuple(self._refused(error, asked)))
            case ConnectResult() as result:
                return self._connected(result)
            case SubscribeResult() as result:
                return Encoded(tuple(self._subscribed(result, asked)))
            case UnsubscribeResult(channel):
                return Encoded((self._left(channel),))
            case result:
                return Encoded(tuple(self._result(result, asked)))

    def _entry(self) -> tuple[dict[Channel, Position], list[Command]]:
        since, self._since = self._since, None
        asked = Asked(self.joining, self._channel, entry=True)
        subscribe = self._subscribe(asked, since, self._recent(since))
        return ({} if since is None else {self._channel: since}), [subscribe]

    def _recent(self, since: Position | None) -> int:
        del since
        return RECENT

    def _subscribe(self, asked: Asked, since: Position | None, recent: int) -> Subscribe:
        return Subscribe(
            self._ask(asked),
            asked.channel,
            since=since,
            recent=recent,
            positioned=True,
            recoverable=True,
            join_leave=self.watching,
            ours=asked.again,
        )

    def _connected(self, result: ConnectResult) -> Encoded:
        """Show the channels that the token itself subscribed this connection to."""
        given = [sub for sub in result.subs if self._shows(sub.channel)]
        return Encoded(tuple(payload for sub in given for payload in self._subscribed(sub, Asked(None))))

    def _refused(self, error: ErrorReply, asked: Asked) -> Iterator[bytes]:
        if asked.entry and error.code == ALREADY_SUBSCRIBED.code:
            return  # by the token: shown when it connected
        yield error_message(error, asked.request)
        if asked.again:  # the client believes to be subscribed
            yield self._left(asked.channel)

    def _subscribed(self, result: SubscribeResult, asked: Asked) -> Iterator[bytes]:
        if not asked.again:
            yield from self._welcome(result.channel)
        if not result.recovered and (result.was_recovering or asked.again):
            yield self._gap(result.channel)
        yield from self._caught_up(result)

    @abstractmethod
    def _shows(self, channel: Channel) -> bool:
        """Whether subscriptions to this channel are shown."""

    @abstractmethod
    def _push(self, push: Push) -> bytes | None:
        """Encode a push as for everybody."""

    @abstractmethod
    def _welcome(self, channel: Channel) -> Iterator[bytes]:
        """Encode what a new subscription is greeted with."""

    @abstractmethod
    def _caught_up(self, result: SubscribeResult) -> Iterator[bytes]:
        """Encode the publications that come with a subscription."""

    @abstractmethod
    def _gap(self, channel: Channel) -> bytes:
        """Encode that publications were lost."""

    @abstractmethod
    def _left(self, channel: Channel) -> bytes:
        """Encode that a subscription is no more."""

    @abstractmethod
    def _result(self, result: Result, asked: Asked) -> Iterator[bytes]:
        """Encode any other result."""
