"""Subscribe and unsubscribe: who may, with which options, and what the reply says."""

from __future__ import annotations

from math import inf

from gateway.disconnects import BAD_REQUEST, INVALID_TOKEN, Disconnect, Unsubscribed
from gateway.errors import (
    ALREADY_SUBSCRIBED,
    LIMIT_EXCEEDED,
    NOT_AVAILABLE,
    PERMISSION_DENIED,
    TOKEN_EXPIRED,
    TOO_MANY_REQUESTS,
    UNKNOWN_CHANNEL,
    UNRECOVERABLE,
    ErrorReply,
)
from gateway.errors import BAD_REQUEST as BAD_REQUEST_ERROR
from gateway.protocol.channels import (
    ChannelOptions,
    Standing,
    bad_name,
    may_publish,
    may_read_history,
    may_read_presence,
    may_subscribe,
    overridden,
)
from gateway.protocol.effects import Effect, Join, Joined, Leave, Live, Outcome, Send, Verified, Verify
from gateway.protocol.limits import TokenBucket
from gateway.protocol.messages import Subscribe, SubscribeResult, Unsubscribe, UnsubscribePush, UnsubscribeResult
from gateway.protocol.state import (
    Joining,
    State,
    Subscription,
    failure,
    fatal,
    is_invalid,
    monotonic_expiry,
    reply,
    time_left,
)
from gateway.types import Channel, ClientInfo, Grant, Position


def subscribe(state: State, command: Subscribe, now: float) -> list[Effect]:
    """Check what can be checked at once, then have the token verified or join."""
    if not command.channel:
        return state.end(BAD_REQUEST)
    options = state.policy.namespaces.options(command.channel)
    if options is None:
        return reply(command.ref, UNKNOWN_CHANNEL)
    refusal = _refusal(state, command, options)
    if refusal is None and _flaps(state, command, options, now):
        refusal = TOO_MANY_REQUESTS
    if refusal is not None:
        return _refuse(state, command, refusal)
    joining = _asked(state, command, options, None)
    state.joining[command.channel] = joining
    if command.token:
        return [Verify(command, command.token)]
    return [join(state, command.ref, command.channel, recent=command.recent)]


def _refuse(state: State, command: Subscribe, refusal: ErrorReply) -> list[Effect]:
    if refusal is PERMISSION_DENIED:
        return state.deny(command.ref, "subscribe", command.channel)
    return reply(command.ref, refusal)


def _refusal(state: State, command: Subscribe, options: ChannelOptions) -> ErrorReply | None:
    channel = command.channel
    refusal = bad_name(channel, options, state.policy.channel_max_length)
    if refusal is None:
        if channel in state.subscriptions or channel in state.joining:
            refusal = ALREADY_SUBSCRIBED
        elif len(state.subscriptions) + len(state.joining) >= state.policy.channel_limit:
            refusal = LIMIT_EXCEEDED
        elif command.kind:
            refusal = NOT_AVAILABLE
        elif command.tags_filter:
            refusal = BAD_REQUEST_ERROR.saying("tags filter is not allowed")
        elif not command.token and not may_subscribe(channel, options, state.standing(channel)):
            refusal = PERMISSION_DENIED
    return refusal


def _flaps(state: State, command: Subscribe, options: ChannelOptions, now: float) -> bool:
    """Whether a client that has left comes back faster than others should be told; a token may tell them, too."""
    told = not command.ours and (options.join_leave or bool(command.token))
    return told and state.rejoins is not None and not state.rejoins.take(now)


def verified(state: State, command: Subscribe, outcome: Outcome, now: float) -> list[Effect]:
    """Go on with what the verifier said of a subscription token."""
    if command.channel not in state.joining:
        return []
    refusal: ErrorReply | Disconnect | None
    if isinstance(outcome, Verified):
        refusal = unfit(state, command.channel, outcome)
        if refusal is None:
            return _granted(state, command, outcome, now)
    else:
        refusal = PERMISSION_DENIED if is_invalid(outcome) else failure(outcome)
    if isinstance(refusal, Disconnect):
        return state.expel("subscribe", command.channel)
    del state.joining[command.channel]
    return _refuse(state, command, refusal)


def unfit(state: State, channel: Channel, token: Verified) -> ErrorReply | Disconnect | None:
    """Return why a token that is good in itself is no subscription token for this channel and client."""
    identity = token.identity
    if identity.ticket or not identity.channel:
        return PERMISSION_DENIED
    if identity.channel != channel or identity.user != state.who.user:
        return INVALID_TOKEN
    if identity.client and identity.client != state.client:
        return INVALID_TOKEN
    return TOKEN_EXPIRED if identity.expires_at is not None and identity.expires_at <= token.wall else None


def _granted(state: State, command: Subscribe, token: Verified, now: float) -> list[Effect]:
    reserved = state.joining[command.channel]
    joining = _asked(state, command, reserved.subscription.options, token.identity.grant)
    joining.ended = reserved.ended
    joining.ttl = time_left(token.identity.expires_at, token.wall)
    joining.subscription.expires_at = monotonic_expiry(token.identity.expires_at, token.wall, now)
    joining.subscription.token = token.identity
    state.by_token = True
    state.joining[command.channel] = joining
    return [join(state, command.ref, command.channel, recent=command.recent)]


def _asked(state: State, command: Subscribe, options: ChannelOptions, grant: Grant | None) -> Joining:
    """Return what a client gets of what it asked for: flags it has no right to are silently ignored."""
    subscription = stand(state, options, grant)
    options = subscription.options
    who = Standing(state.who.user, subscribed=True, insecure=state.policy.insecure)
    if options.keeps_history:
        readable = may_read_history(options, who)
        if command.recoverable and (options.allow_recovery or readable):
            subscription.recoverable = subscription.positioned = True
        if command.positioned and (options.allow_positioning or readable):
            subscription.positioned = True
    if command.join_leave and options.join_leave and may_read_presence(options, who):
        subscription.watch = True
    subscription.may_publish = may_publish(command.channel, options, who)
    return Joining(subscription, command.since, command.reject_unrecovered, data=grant.data if grant else None)


def stand(state: State, options: ChannelOptions, grant: Grant | None) -> Subscription:
    """Return a subscription with what the namespace and the token give unasked."""
    who = state.who
    if grant is not None:
        options = overridden(options, grant.override)
        if grant.info is not None:
            who = ClientInfo(who.user, who.client, who.conn_info, grant.info)
    recoverable = options.keeps_history and options.force_recovery
    return Subscription(
        options,
        who,
        positioned=recoverable or (options.keeps_history and options.force_positioning),
        recoverable=recoverable,
        watch=options.join_leave and options.force_push_join_leave,
    )


def join(state: State, ref: int, channel: Channel, recent: int = 0) -> Join:
    """Ask the shell for the join that is reserved for a channel."""
    joining = state.joining[channel]
    subscription = joining.subscription
    options = subscription.options
    member = Standing(state.who.user, subscribed=True, insecure=state.policy.insecure)
    readable = recent > 0 and options.keeps_history and may_read_history(options, member)
    return Join(
        ref,
        channel,
        subscription.who,
        server=subscription.server,
        positioned=subscription.positioned,
        presence=options.presence,
        join_leave=options.join_leave,
        watch=subscription.watch,
        since=joining.since if subscription.recoverable else None,
        recent=min(recent, state.policy.history_limit) if readable else 0,
        history=options.keeps_history,
        history_meta_ttl=options.history_meta_ttl,
        limit=state.policy.recovery_limit,
    )


def joined(state: State, effect: Join, outcome: Outcome) -> list[Effect]:
    """Answer a subscribe once its join has an end."""
    joining = state.joining.pop(effect.channel, None)
    if joining is None:
        return []
    if not isinstance(outcome, Joined):
        disconnect = fatal(outcome)
        return reply(effect.ref, failure(outcome)) if disconnect is None else state.end(disconnect)
    result = settle(joining, effect.channel, outcome)
    if joining.reject_unrecovered and result.was_recovering and not result.recovered:
        return [Leave(effect.channel), *reply(effect.ref, UNRECOVERABLE)]
    state.subscriptions[effect.channel] = joining.subscription
    if joining.subscription.expires_at < inf:
        state.plan_expiry_of_subscriptions()
    effects = [*reply(effect.ref, result), Live(effect.channel)]
    if joining.ended is not None:
        effects += unsubscribed(state, effect.channel, joining.ended)
    return effects


def settle(joining: Joining, channel: Channel, outcome: Joined) -> SubscribeResult:
    """Return what a client is told of its new subscription."""
    subscription = joining.subscription
    return SubscribeResult(
        channel,
        position=outcome.position if subscription.positioned else None,
        positioned=subscription.positioned,
        recoverable=subscription.recoverable,
        was_recovering=joining.since is not None,
        recovered=outcome.recovered,
        since=joining.since if outcome.recovered else None,
        publications=outcome.publications,
        ttl=joining.ttl,
        data=joining.data,
    )


def unsubscribe(state: State, command: Unsubscribe, now: float) -> list[Effect]:
    """Stop listening; not being subscribed is no error, for a client may be behind.

    The first leave of which others are told begins to count: before it, a client may come in wherever it likes.
    """
    if not command.channel:
        return state.end(BAD_REQUEST)
    subscription = state.subscriptions.get(command.channel)
    policy = state.policy
    if state.rejoins is None and policy.rejoin_rate and subscription is not None and subscription.options.join_leave:
        state.rejoins = TokenBucket(rate=policy.rejoin_rate, burst=policy.rejoin_burst, now=now)
    result = UnsubscribeResult(command.channel)
    return [*leave(state, command.channel), *reply(command.ref, result)]


def unsubscribed(
    state: State, channel: Channel, reason: Unsubscribed, position: Position | None = None
) -> list[Effect]:
    """End a standing subscription from our side."""
    push = UnsubscribePush(channel, reason.code, reason.reason, position)
    return [*leave(state, channel), Send(push)]


def leave(state: State, channel: Channel) -> list[Effect]:
    """Forget a subscription, if there is one."""
    subscription = state.subscriptions.pop(channel, None)
    if subscription is None:
        return []
    if subscription.expires_at < inf:
        state.plan_expiry_of_subscriptions()
    return [Leave(channel)]
