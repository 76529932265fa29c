"""Effects to calls: what a connection does for its session."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from gateway import accounting
from gateway.answers import answer
from gateway.errors import EngineFault, TokenError
from gateway.joining import Seat, join, leave, withdraw
from gateway.protocol.effects import (
    Close,
    Denied,
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
from gateway.types import Channel, ClientInfo, ConnectionId, Identity, Position

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


def _denied(connection: Connection, effect: Denied) -> None:
    accounting.denied(connection, effect)


# --- subscriptions


def _join(connection: Connection, effect: Join) -> None:
    connection.waiting.hold(effect.channel)
    before = _taken_over(connection, effect.channel)
    connection.shell.spawn(_joined(connection, effect, before), connection, "join")


async def _joined(connection: Connection, effect: Join, before: Seat | None) -> None:
    outcome = await join(effect, connection, connection.shell.tools, before)
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


def fall_behind(connection: Connection, channel: Channel, position: Position | None) -> None:
    """Tell a session that publications after `position` are missing. A root: others are to be told after it.

    Its dialect may subscribe again at once: then its place in presence is kept, and others see nobody leave or join.
    """
    seat = connection.seats.get(channel)
    if seat is None or connection.gone:
        return
    seat.returning = True
    connection.returning = (channel, seat)
    try:
        connection.perform(connection.session.insufficient(channel, position, connection.shell.clock.monotonic()))
    except Exception as error:  # noqa: BLE001 - see above
        connection.failed(error, "frame")
    finally:
        seat.returning = False
        if _taken_over(connection, channel) is not None and seat.left:
            withdraw(channel, connection, seat, connection.shell.tools)


def _taken_over(connection: Connection, channel: Channel) -> Seat | None:
    """Return the seat that is being left, to the first who asks."""
    if connection.returning is None or connection.returning[0] != channel:
        return None
    (_, seat), connection.returning = connection.returning, None
    return seat


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
    except BaseException:
        connection.in_flight -= 1  # nobody will answer any more
        raise
    connection.answered(effect, outcome)
    _free(connection, effect)
    connection.resume()


async def _checked(connection: Connection, effect: Verify) -> Verified | TokenError:
    verifier = connection.shell.verifier
    identity = await verifier.verify(effect.token)
    if identity.ticket and isinstance(effect.command, Connect) and effect.command.ticket:
        claim = connection.shell.tools.engine.broker.claim
        if not await answer(claim, f"used:{identity.token_id}", TICKET_TTL) or verifier.revoked(identity):
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
        effect.channel, effect.data, effect.options, _Publishing(connection, effect)
    )


class _Publishing:
    """Whose publication it was, for the outcome."""

    __slots__ = ("connection", "effect")

    def __init__(self, connection: Connection, effect: PublishTo) -> None:
        self.connection = connection
        self.effect = effect

    def __call__(self, outcome: Published | EngineFault) -> None:
        shell, effect = self.connection.shell, self.effect
        shell.recorder.count("publishes", "ok" if isinstance(outcome, Published) else "error")
        shell.recorder.observe("publish_duration", max(0.0, shell.clock.wall() - effect.options.time_ms / 1000))
        self.connection.answered(effect, outcome)


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
    except BaseException:
        connection.in_flight -= 1  # nobody will answer any more
        raise
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
    Denied: _denied,
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
