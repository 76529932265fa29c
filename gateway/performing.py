"""Effects to calls: what a connection does for its session."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from gateway.answers import answer
from gateway.errors import EngineFault, TokenError
from gateway.joining import join, leave
from gateway.protocol.effects import (
    Close,
    Effect,
    Heartbeat,
    Join,
    Leave,
    Live,
    Members,
    Notified,
    Notify,
    PublishTo,
    ReadHistory,
    ReadPresence,
    ReadStats,
    Send,
    Verified,
    Verify,
)
from gateway.protocol.messages import Connect, PingPush, SubRefresh, Subscribe
from gateway.protocol.values import Published
from gateway.types import Channel, ClientInfo, ConnectionId, Identity

if TYPE_CHECKING:
    from gateway.connection import Connection

TICKET_TTL: Final = 60.0  # seconds a used ticket is remembered; it lives 30
INVALID: Final = TokenError(3500, "invalid token")


def _send(connection: Connection, effect: Send) -> None:
    connection.send(effect.message)


def _heartbeat(connection: Connection, _: Heartbeat) -> None:
    if connection.heartbeat == "application":
        connection.send(PingPush())
    else:
        connection.transport.ping()


def _close(connection: Connection, effect: Close) -> None:
    connection.close(effect.disconnect)


# --- subscriptions


def _join(connection: Connection, effect: Join) -> None:
    connection.waiting.hold(effect.channel)
    connection.shell.spawn(_joined(connection, effect), connection, "join")


async def _joined(connection: Connection, effect: Join) -> None:
    outcome = await join(effect, connection, connection.shell.tools)
    if outcome is not None:
        connection.resolve(effect, outcome)
    connection.resume(effect.channel)


def _live(connection: Connection, effect: Live) -> None:
    seat = connection.seats.get(effect.channel)
    interest = connection.shell.tools.hub.interests.get(effect.channel)
    if seat is None or seat.held is None or interest is None:
        return
    held, seat.held = seat.held, None
    if not interest.release(held):
        connection.insufficient(effect.channel, held.position)


def _leave(connection: Connection, effect: Leave) -> None:
    leave(effect.channel, connection, connection.shell.tools)


# --- tokens


def _verify(connection: Connection, effect: Verify) -> None:
    if isinstance(effect.command, (Subscribe, SubRefresh)):
        connection.waiting.hold(effect.command.channel)
    wall = connection.shell.clock.wall()
    known = connection.shell.verifier.known(effect.token, wall)
    if isinstance(known, Identity) and not known.ticket:
        _verified(connection, effect, Verified(known, wall))
    elif isinstance(known, TokenError):
        _verified(connection, effect, known)
    else:
        connection.called()
        connection.shell.spawn(_verify_slowly(connection, effect), connection, "verify")


async def _verify_slowly(connection: Connection, effect: Verify) -> None:
    """Fetch keys, claim a ticket."""
    try:
        outcome: Verified | TokenError | EngineFault = await _checked(connection, effect)
    except (TokenError, EngineFault) as error:
        outcome = error
    connection.answered(effect, outcome)
    _free(connection, effect)
    connection.resume()


async def _checked(connection: Connection, effect: Verify) -> Verified | TokenError:
    identity = await connection.shell.verifier.verify(effect.token)
    if identity.ticket and isinstance(effect.command, Connect) and effect.command.ticket:
        claim = connection.shell.tools.engine.broker.claim
        if not await answer(claim, f"used:{identity.token_id}", TICKET_TTL):
            return INVALID
    return Verified(identity, connection.shell.clock.wall())


def _verified(connection: Connection, effect: Verify, outcome: Verified | TokenError) -> None:
    connection.resolve(effect, outcome)
    _free(connection, effect)


def _free(connection: Connection, effect: Verify) -> None:
    if isinstance(effect.command, (Subscribe, SubRefresh)):
        connection.resume(effect.command.channel)


# --- publications


def _publish(connection: Connection, effect: PublishTo) -> None:
    effect.options.time_ms = int(connection.shell.clock.wall() * 1000)
    connection.called()
    connection.shell.tools.engine.broker.publish(
        effect.channel, effect.data, effect.options, partial(_published, connection, effect)
    )


def _published(connection: Connection, effect: PublishTo, outcome: Published | EngineFault) -> None:
    shell = connection.shell
    shell.recorder.count("publishes", "error" if isinstance(outcome, EngineFault) else "ok")
    shell.recorder.observe("publish_duration", max(0.0, shell.clock.wall() - effect.options.time_ms / 1000))
    connection.answered(effect, outcome)


def _notify(connection: Connection, effect: Notify) -> None:
    connection.called()
    connection.shell.spawn(_notified(connection, effect), connection, "notify")


async def _notified(connection: Connection, effect: Notify) -> None:
    """Publish first: the message goes out even if nobody can say whether somebody was there."""
    engine = connection.shell.tools.engine
    channel = Channel(f"#{effect.user}")
    effect.options.time_ms = int(connection.shell.clock.wall() * 1000)
    outcome: Notified | EngineFault
    try:
        await answer(engine.broker.publish, channel, effect.data, effect.options)
        there = await answer(engine.presence.stats, channel) if engine.presence is not None else None
        outcome = Notified(delivered=there is not None and there.num_clients > 0)
    except EngineFault as fault:
        outcome = fault
    connection.answered(effect, outcome)


# --- reads


def _read_history(connection: Connection, effect: ReadHistory) -> None:
    history = connection.shell.tools.engine.history
    if history is None:
        connection.resolve(effect, EngineFault("refused", "this engine keeps no history"))
        return
    connection.called()
    history.read(effect.channel, effect.query, partial(connection.answered, effect))


def _read_presence(connection: Connection, effect: ReadPresence) -> None:
    presence = connection.shell.tools.engine.presence
    if presence is None:
        connection.resolve(effect, EngineFault("refused", "this engine keeps no presence"))
        return
    connection.called()

    def done(outcome: Mapping[ConnectionId, ClientInfo] | EngineFault) -> None:
        connection.answered(effect, outcome if isinstance(outcome, EngineFault) else Members(dict(outcome)))

    presence.members(effect.channel, done)


def _read_stats(connection: Connection, effect: ReadStats) -> None:
    presence = connection.shell.tools.engine.presence
    if presence is None:
        connection.resolve(effect, EngineFault("refused", "this engine keeps no presence"))
        return
    connection.called()
    presence.stats(effect.channel, partial(connection.answered, effect))


PERFORM: Final[Mapping[type[Effect], Callable[[Connection, Any], None]]] = {
    Send: _send,
    Heartbeat: _heartbeat,
    Close: _close,
    Verify: _verify,
    PublishTo: _publish,
    ReadHistory: _read_history,
    ReadPresence: _read_presence,
    ReadStats: _read_stats,
    Join: _join,
    Live: _live,
    Leave: _leave,
    Notify: _notify,
}
