"""One connection's conversation: commands and outcomes in, effects out."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TypeAlias, assert_never

from gateway import errors
from gateway.disconnects import (
    BAD_REQUEST,
    EXPIRED,
    INSUFFICIENT_STATE,
    NO_PONG,
    NOT_AVAILABLE,
    SERVER_ERROR,
    STALE,
    SUBSCRIPTION_EXPIRED,
    TOO_MANY_ERRORS,
    TOO_MANY_REQUESTS,
    UNSUBSCRIBED_INSUFFICIENT,
    Disconnect,
    Unsubscribed,
)
from gateway.errors import DecodeError
from gateway.protocol import connecting, expiring, heartbeat, messages, publishing, reading, subscribing
from gateway.protocol.effects import (
    Effect,
    Join,
    Notify,
    Outcome,
    PublishTo,
    ReadHistory,
    ReadPresence,
    ReadStats,
    Verify,
)
from gateway.protocol.limits import RecentCount
from gateway.protocol.messages import Command, Pong, Publish
from gateway.protocol.state import Phase, State, Subscription, reply
from gateway.types import Channel, Identity, Position

__all__ = ["Phase", "Session", "Subscription"]

Rare: TypeAlias = (
    messages.Connect
    | messages.Refresh
    | messages.SubRefresh
    | messages.Pong
    | messages.Ping
    | messages.Rpc
    | messages.Send
    | messages.Echo
    | messages.Nothing
)


class Session(State):
    """A pure state machine; no call ever raises, and after a Close or `close()` every call returns nothing.

    Commands come one at a time. While the phase is VERIFYING all of them but Pong are held back by the caller, and so
    are those for a channel with a Verify or Join under way. Each effect that has an outcome gets it once, by `resolve`.
    When the time reaches `deadline`, `tick` is due; any call may move the deadline. `now` is monotonic seconds.
    """

    __slots__ = ()

    def receive(self, command: Command, now: float) -> list[Effect]:
        """Take one command."""
        if self.phase is not Phase.OPEN:
            return connecting.receive(self, command, now)
        bucket = self.bucket
        if bucket is not None and not bucket.take(now) and not self._is_free(command):
            return self._overloaded(command, bucket.refusing(now))
        return self._dispatch(command, now)

    def ponged(self) -> None:
        """Take a pong frame of WebSocket: one may come at any time, and its transport says how many."""
        if self.phase is Phase.OPEN:
            heartbeat.ponged(self)

    def resolve(self, effect: Effect, outcome: Outcome, now: float) -> list[Effect]:
        """Take what came of an effect that this session asked for."""
        if self.phase is Phase.CLOSED:
            return []
        match effect:
            case PublishTo():
                return publishing.published(effect, outcome)
            case ReadHistory() | ReadPresence() | ReadStats():
                return reading.resolve(effect, outcome)
            case Notify():
                return publishing.notified(effect, outcome)
            case Join() if effect.server:
                return connecting.joined(self, effect, outcome, now)
            case Join():
                return subscribing.joined(self, effect, outcome)
            case Verify():
                return self._verified(effect.command, outcome, now)
            case _:
                return []  # the others have no outcome

    def malformed(self, error: DecodeError, now: float) -> list[Effect]:
        """Take bytes that are no commands, after the commands before them in the same frame."""
        if self.phase is Phase.CLOSED:
            return []
        if isinstance(error.refusal, Disconnect):
            return self.end(error.refusal)
        if self.phase in {Phase.CONNECTING, Phase.REFUSED}:
            return self.end(BAD_REQUEST)  # only a Connect may come first, and nothing after a refusal
        if self.malformations is None:
            self.malformations = RecentCount(limit=self.policy.error_burst, period=self.policy.error_period)
        if self.malformations.add(now):
            return self.end(TOO_MANY_ERRORS)
        return reply(error.ref, error.refusal)

    def tick(self, now: float) -> list[Effect]:
        """Do what is due; harmless when nothing is."""
        if self.phase is Phase.CLOSED:
            return []
        overdue = self._overdue(now)
        if overdue is not None:
            return self.end(overdue)
        effects: list[Effect] = []
        if now >= self.subscriptions_end_at:
            effects += expiring.expire_subscriptions(self, now)
        if now >= self.notice_at:
            effects += expiring.notice(self, now)
        if now >= self.ping_at:
            effects += heartbeat.beat(self, now)
        self.reschedule()
        return effects

    def congested(self, now: float) -> None:
        """Take note that the client is still taking what was sent before: our ping may not have reached it."""
        heartbeat.extend(self, now)

    def insufficient(self, channel: Channel, position: Position | None, now: float) -> list[Effect]:
        """End a subscription of which publications are lost; `position`: up to where the client got everything."""
        subscription = self.subscriptions.get(channel)
        if subscription is None or not subscription.positioned or self.phase is Phase.CLOSED:
            return []  # who keeps no position was promised nothing
        if subscription.server or self._again(channel, now):
            return self.end(INSUFFICIENT_STATE)
        return subscribing.unsubscribed(self, channel, UNSUBSCRIBED_INSUFFICIENT, position)

    def unsubscribe(self, channel: Channel, reason: Unsubscribed) -> list[Effect]:
        """End a subscription because the server wants it; one that does not stand yet ends as soon as it does."""
        if self.phase is Phase.CLOSED:
            return []
        joining = self.joining.get(channel)
        if joining is not None:
            joining.ended = reason
        if channel not in self.subscriptions:
            return []
        return subscribing.unsubscribed(self, channel, reason)

    def resting_on(self, barred: Callable[[Identity], messages.Revoke | None]) -> list[tuple[Channel, messages.Revoke]]:
        """Return the channels whose subscription, standing or not yet, rests on a token that is barred, and by what."""
        made = [*self.subscriptions.items(), *((channel, it.subscription) for channel, it in self.joining.items())]
        tokens = ((channel, it.token) for channel, it in made if it.token is not None)
        return [(channel, why) for channel, token in tokens if (why := barred(token)) is not None]

    def close(self) -> None:
        """Take note that the connection is gone."""
        self.phase = Phase.CLOSED
        self.deadline = inf

    def _dispatch(self, command: Command, now: float) -> list[Effect]:
        match command:
            case Publish():
                return publishing.publish(self, command)
            case messages.Subscribe():
                return subscribing.subscribe(self, command, now)
            case messages.Unsubscribe():
                return subscribing.unsubscribe(self, command, now)
            case messages.Presence() | messages.PresenceStats() | messages.Members():
                return reading.presence(self, command)
            case messages.History():
                return reading.history(self, command)
            case messages.Message():
                return publishing.message(self, command)
            case _:
                return self._dispatch_rare(command)

    def _dispatch_rare(self, command: Rare) -> list[Effect]:
        match command:
            case messages.Refresh():
                return expiring.refresh(self, command)
            case messages.SubRefresh():
                return expiring.sub_refresh(self, command)
            case messages.Ping():
                return reply(command.ref, messages.PingResult())
            case messages.Echo():
                return reply(command.ref, messages.EchoResult(command.payload, command.text))
            case Pong() | messages.Nothing():
                return heartbeat.pong(self) if isinstance(command, Pong) else []
            case messages.Rpc():
                return reply(command.ref, errors.NOT_AVAILABLE)
            case messages.Connect() | messages.Send():
                return self.end(BAD_REQUEST if isinstance(command, messages.Connect) else NOT_AVAILABLE)
            case _:
                assert_never(command)

    def _verified(self, command: Command, outcome: Outcome, now: float) -> list[Effect]:
        match command:
            case messages.Connect():
                return connecting.verified(self, command, outcome, now)
            case messages.Subscribe():
                return subscribing.verified(self, command, outcome, now)
            case messages.Refresh():
                return expiring.refreshed(self, command, outcome, now)
            case messages.SubRefresh():
                return expiring.sub_refreshed(self, command, outcome, now)
            case _:
                return []  # no other command carries a token

    def _is_free(self, command: Command) -> bool:
        """Whether a command comes through though the client has asked for too much: the pong to a ping, and ours."""
        if isinstance(command, Pong):
            return self.pinged
        return isinstance(command, messages.Subscribe | messages.History) and command.ours

    def _overloaded(self, command: Command, seconds: float) -> list[Effect]:
        if seconds >= self.policy.overload_grace:
            return self.end(TOO_MANY_REQUESTS)
        if isinstance(command, messages.Send | messages.Nothing | Pong):
            return []
        return reply(command.ref, errors.TOO_MANY_REQUESTS)

    def _overdue(self, now: float) -> Disconnect | None:
        if now >= self.ends_at:
            if self.phase is Phase.VERIFYING:
                return SERVER_ERROR  # it is we who are late
            return EXPIRED if self.phase is Phase.OPEN else STALE
        if now >= self.pong_by:
            return NO_PONG
        if now >= self.subscriptions_end_at and expiring.server_subscription_expired(self, now):
            return SUBSCRIPTION_EXPIRED
        return None

    def _again(self, channel: Channel, now: float) -> bool:
        """Whether this channel fell behind a short while ago already: then subscribing again does not help."""
        period = self.policy.gap_period
        if period <= 0:
            return False
        gaps = {it: at for it, at in self.gaps.items() if now - at < period} if self.gaps else {}
        again = channel in gaps
        gaps[channel] = now
        self.gaps = gaps
        return again
