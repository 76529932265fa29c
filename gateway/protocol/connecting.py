"""From the first command to an open connection: the token, and the subscriptions that the server makes at connect."""

from __future__ import annotations

from gateway.disconnects import BAD_REQUEST, CHANNEL_LIMIT, INVALID_TOKEN, SERVER_ERROR, Disconnect
from gateway.errors import EXPIRED, TOKEN_EXPIRED, UNKNOWN_CHANNEL, ErrorReply
from gateway.protocol import expiring, heartbeat
from gateway.protocol.channels import can_be_personal, personal_channel
from gateway.protocol.effects import Effect, Join, Joined, Leave, Live, Outcome, Send, Verified, Verify
from gateway.protocol.limits import TokenBucket
from gateway.protocol.messages import Command, Connect, ConnectResult, Reply
from gateway.protocol.state import (
    Joining,
    Opening,
    Phase,
    State,
    failure,
    fatal,
    invalid_token,
    is_invalid,
    monotonic_expiry,
    reply,
    time_left,
)
from gateway.protocol.subscribing import join, settle, stand
from gateway.types import Channel, ClientInfo, Grant, Identity, UserId


def receive(state: State, command: Command, now: float) -> list[Effect]:
    """Take a command while the connection is not open: one Connect, and nothing else."""
    if state.phase is Phase.CLOSED:
        return []
    if state.phase is not Phase.CONNECTING or not isinstance(command, Connect):
        return state.end(BAD_REQUEST)
    if command.token:
        state.phase = Phase.VERIFYING
        return [Verify(command, command.token)]
    if not (state.policy.insecure or state.policy.anonymous):
        return state.end(BAD_REQUEST)
    state.phase = Phase.VERIFYING
    return _admit(state, command, Verified(Identity(UserId("")), wall=0.0), now)


def verified(state: State, command: Connect, outcome: Outcome, now: float) -> list[Effect]:
    """Go on with what the verifier said of the token."""
    if state.phase is not Phase.VERIFYING:
        return []
    if is_invalid(outcome):
        return state.end(invalid_token(outcome))
    if not isinstance(outcome, Verified):
        return _refuse(state, command.ref, failure(outcome))
    identity = outcome.identity
    if identity.ticket != command.ticket or identity.channel:
        return state.expel("connect", identity.channel)
    late = -1.0 if identity.expires_at is None else outcome.wall - identity.expires_at
    if late >= 0:
        # 110 is for good. A token let through by leeway is 109, or a client closed with 3005 could never come back.
        return _refuse(state, command.ref, TOKEN_EXPIRED if late <= state.policy.token_leeway else EXPIRED)
    return _admit(state, command, outcome, now)


def joined(state: State, effect: Join, outcome: Outcome, now: float) -> list[Effect]:
    """Collect the subscriptions of the server; the last one opens the connection, one failure refuses it."""
    opening = state.opening
    joining = state.joining.pop(effect.channel, None)
    if opening is None or joining is None:
        return [Leave(effect.channel)] if isinstance(outcome, Joined) else []
    if not isinstance(outcome, Joined):
        disconnect = fatal(outcome)
        return _refuse(state, effect.ref, failure(outcome)) if disconnect is None else state.end(disconnect)
    state.subscriptions[effect.channel] = joining.subscription
    opening.results[effect.channel] = settle(joining, effect.channel, outcome)
    return [] if state.joining else _open(state, opening, now)


def _admit(state: State, command: Connect, token: Verified, now: float) -> list[Effect]:
    """Let an identity in, once the subscriptions that come with it stand."""
    identity, policy = token.identity, state.policy
    grants: dict[Channel, Grant | None] = dict(identity.grants)
    if identity.user and (command.personal or policy.personal):
        if not can_be_personal(identity.user):
            return state.end(INVALID_TOKEN)
        grants.setdefault(personal_channel(identity.user))
    if len(grants) > policy.channel_limit:
        return state.end(CHANNEL_LIMIT)
    state.identity = identity
    state.who = ClientInfo(identity.user, state.client, identity.info)
    for channel, grant in grants.items():
        options = policy.namespaces.options(channel) if channel else None
        if options is None:
            return _refuse(state, command.ref, UNKNOWN_CHANNEL)
        subscription = stand(state, options, grant)
        subscription.server = True
        state.joining[channel] = Joining(subscription, command.subs.get(channel), data=grant.data if grant else None)
    left = time_left(identity.expires_at, token.wall)
    opening = Opening(command.ref, left, monotonic_expiry(identity.expires_at, token.wall, now))
    if not grants:
        return _open(state, opening, now)
    state.opening = opening
    return [join(state, command.ref, channel) for channel in grants]


def _open(state: State, opening: Opening, now: float) -> list[Effect]:
    policy = state.policy
    state.opening = None
    state.phase = Phase.OPEN
    if policy.command_rate > 0:
        state.bucket = TokenBucket(rate=policy.command_rate, burst=policy.command_burst, now=now)
    expiring.plan(state, opening.expires_at)
    heartbeat.begin(state, now)
    state.reschedule()
    subs = [opening.results[channel] for channel in opening.results]
    ping = int(policy.ping_interval) if policy.show_ping else 0
    result = ConnectResult(
        state.client,
        state.who.user,
        state.version,
        node=state.node,
        ttl=opening.ttl,
        ping=ping,
        pong=ping > 0 and policy.pong_timeout > 0,
        subs=subs,
    )
    return [Send(Reply(opening.ref, result)), *(Live(it.channel) for it in subs)]


def _refuse(state: State, ref: int, error: ErrorReply) -> list[Effect]:
    """Answer connect with an error: what was joined is left, and what comes later ends the connection."""
    if state.policy.close_on_refusal:
        return state.end(_close_for(error))
    leaves = [Leave(channel) for channel in state.subscriptions]
    state.phase = Phase.REFUSED
    state.opening = state.identity = None
    state.subscriptions.clear()
    state.joining.clear()  # those under way are left when they come
    return [*leaves, *reply(ref, error)]


def _close_for(error: ErrorReply) -> Disconnect:
    """Return what says the same as an error to those who know no error to a connect: come back, or not with this."""
    if error.temporary:
        return SERVER_ERROR
    return Disconnect(INVALID_TOKEN.code, (TOKEN_EXPIRED if error == EXPIRED else error).message)
