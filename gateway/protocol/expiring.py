"""Tokens end: notice, refresh, and what happens without one."""

from __future__ import annotations

from math import inf

from gateway.disconnects import (
    BAD_REQUEST,
    EXPIRED,
    INSUFFICIENT_STATE,
    INVALID_TOKEN,
    UNSUBSCRIBED_EXPIRED,
    UNSUBSCRIBED_INSUFFICIENT,
    Disconnect,
)
from gateway.errors import TOKEN_EXPIRED
from gateway.protocol.effects import Effect, Outcome, Send, Verified, Verify
from gateway.protocol.messages import ExpiringPush, Refresh, RefreshResult, SubRefresh, SubRefreshResult
from gateway.protocol.state import (
    State,
    Subscription,
    failure,
    invalid_token,
    is_invalid,
    monotonic_expiry,
    reply,
    time_left,
)
from gateway.protocol.subscribing import stand, unfit, unsubscribed
from gateway.types import Channel, ClientInfo, Grant, Identity


def plan(state: State, expires_at: float) -> None:
    """Set when the connection ends unless its token is refreshed; `expires_at` is monotonic, inf = never."""
    state.ends_at = expires_at + state.policy.expired_delay
    state.notice_at = expires_at - state.policy.expiring_notice if state.policy.expiring_notice > 0 else inf


def notice(state: State, now: float) -> list[Effect]:
    """Tell the client that its token ends soon, once."""
    state.notice_at = inf
    return [Send(ExpiringPush(max(0, round(state.ends_at - state.policy.expired_delay - now))))]


def expire_subscriptions(state: State, now: float) -> list[Effect]:
    """End the subscriptions that were not refreshed in time."""
    over = _expired(state, now)
    return [effect for channel in over for effect in unsubscribed(state, channel, UNSUBSCRIBED_EXPIRED)]


def server_subscription_expired(state: State, now: float) -> bool:
    """Whether one that the server made is among them: that ends the connection, for the client cannot redo it."""
    return any(state.subscriptions[channel].server for channel in _expired(state, now))


def _expired(state: State, now: float) -> list[Channel]:
    delay = state.policy.expired_sub_delay
    return [channel for channel, it in state.subscriptions.items() if it.expires_at + delay <= now]


def refresh(state: State, command: Refresh) -> list[Effect]:
    """Have the new connection token verified."""
    return [Verify(command, command.token)] if command.token else state.end(BAD_REQUEST)


def refreshed(state: State, command: Refresh, outcome: Outcome, now: float) -> list[Effect]:
    """Live on with a new connection token, or end."""
    if is_invalid(outcome):
        return state.end(invalid_token(outcome))
    if not isinstance(outcome, Verified):
        error = failure(outcome)
        return state.end(EXPIRED) if error is TOKEN_EXPIRED else reply(command.ref, error)
    disconnect = _unfit(state, outcome)
    if disconnect is not None:
        return state.expel("refresh") if disconnect is INVALID_TOKEN else state.end(disconnect)
    identity = outcome.identity
    _adopt(state, identity)
    plan(state, monotonic_expiry(identity.expires_at, outcome.wall, now))
    state.reschedule()
    ttl = time_left(identity.expires_at, outcome.wall)
    return reply(command.ref, RefreshResult(state.client, state.version, ttl))


def _unfit(state: State, token: Verified) -> Disconnect | None:
    identity = token.identity
    if identity.ticket or identity.channel or identity.user != state.who.user:
        return INVALID_TOKEN
    if identity.expires_at is not None and identity.expires_at <= token.wall:
        return EXPIRED
    return None if _same_rights(state, identity) else INSUFFICIENT_STATE


def _same_rights(state: State, identity: Identity) -> bool:
    """Whether the new token grants what the connection was opened with. If not, the next connect makes it so."""
    before = state.identity.grants if state.identity is not None else {}
    if identity.grants.keys() != before.keys():
        return False
    standing = ((channel, state.subscriptions.get(channel)) for channel in before)
    return all(it is None or _same_options(state, channel, it, identity.grants[channel]) for channel, it in standing)


def _same_options(state: State, channel: Channel, subscription: Subscription, grant: Grant | None) -> bool:
    options = state.policy.namespaces.options(channel)
    return options is not None and stand(state, options, grant).options == subscription.options


def _adopt(state: State, identity: Identity) -> None:
    """Take over what the new token says of the client; publications carry it from now on."""
    state.identity = identity
    if identity.info != state.who.conn_info:
        state.who = ClientInfo(state.who.user, state.client, identity.info)
    for channel, subscription in state.subscriptions.items():
        grant = identity.grants.get(channel) if subscription.server else None
        _describe(state, subscription, grant.info if grant is not None else subscription.who.chan_info)


def _describe(state: State, subscription: Subscription, chan_info: bytes | None) -> None:
    who = state.who
    subscription.who = who if chan_info is None else ClientInfo(who.user, who.client, who.conn_info, chan_info)


def sub_refresh(state: State, command: SubRefresh) -> list[Effect]:
    """Have the new subscription token verified; without a channel the token says which."""
    if not command.token:
        return state.end(BAD_REQUEST)
    if command.channel and command.channel not in state.subscriptions:
        return state.deny(command.ref, "sub_refresh", command.channel)
    return [Verify(command, command.token)]


def sub_refreshed(state: State, command: SubRefresh, outcome: Outcome, now: float) -> list[Effect]:
    """Let a subscription live on with a new token; a wrong one ends the connection, an expired one is only refused.

    One that changes the options of the channel counts from the next subscribe on, to which the client is sent.
    """
    if is_invalid(outcome):
        return state.end(invalid_token(outcome))
    if not isinstance(outcome, Verified):
        return reply(command.ref, failure(outcome))
    identity = outcome.identity
    channel = command.channel or identity.channel or Channel("")
    refusal = unfit(state, channel, outcome)
    if refusal is TOKEN_EXPIRED:
        return reply(command.ref, TOKEN_EXPIRED)
    if refusal is not None:
        return state.expel("sub_refresh", channel)
    subscription = state.subscriptions.get(channel)
    if subscription is None:
        return state.deny(command.ref, "sub_refresh", channel)
    _describe(state, subscription, identity.grant.info if identity.grant else None)
    subscription.expires_at = monotonic_expiry(identity.expires_at, outcome.wall, now)
    subscription.token = identity
    state.by_token = True
    state.plan_expiry_of_subscriptions()
    refreshed = reply(command.ref, SubRefreshResult(channel, time_left(identity.expires_at, outcome.wall)))
    if subscription.server or _same_options(state, channel, subscription, identity.grant):
        return refreshed
    return [*refreshed, *unsubscribed(state, channel, UNSUBSCRIBED_INSUFFICIENT)]
