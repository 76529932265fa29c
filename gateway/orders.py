"""What every node was told to do: close connections, and bar tokens and close what they have opened."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import islice
from math import inf
from typing import Final, TypeAlias

import structlog

from gateway.connection import Connection
from gateway.contracts.clock import Clock
from gateway.contracts.verifier import Verifier
from gateway.disconnects import UNSUBSCRIBED_BY_SERVER, UNSUBSCRIBED_EXPIRED, Disconnect
from gateway.protocol.messages import ControlCommand, DisconnectClients, Revoke
from gateway.protocol.revocations import Denylist, subject
from gateway.timers import CHUNK, SLICE, TimerWheel
from gateway.types import ConnectionId, UserId

PAUSE: Final = 0.1  # seconds between two looks at everybody, however many revocations come
LOGGED: Final = 20  # revocations at once; a node that starts may be told of thousands

Look: TypeAlias = Callable[[Connection], None]

log = structlog.get_logger(__name__)


def _nothing() -> None:
    """Let nothing follow."""


@dataclass(slots=True)
class _Walk:
    """A look at each of the connections that there were when it was ordered."""

    left: Iterator[Connection]
    look: Look
    ended: Callable[[], None]


class Orders:
    """Carries out control commands on the connections of this node; each may come more than once.

    Connections are looked at in turns of the loop that follow, some in each, one order after the other.
    """

    def __init__(
        self,
        connections: Mapping[ConnectionId, Connection],
        users: Mapping[UserId, Iterable[Connection]],
        *,
        verifier: Verifier,
        clock: Clock,
        wheel: TimerWheel,
        call_soon: Callable[[Callable[[], None]], None],
    ) -> None:
        self._connections = connections
        self._users = users
        self._verifier = verifier
        self._clock = clock
        self._wheel = wheel
        self._call_soon = call_soon
        self.timer_tick = 0
        self._fresh: list[Revoke] = []  # nobody was looked at for these yet
        self._walks: deque[_Walk] = deque()  # the first is under way
        self._booked = False  # somebody will look
        self._rest_until = 0.0

    def carry_out(self, command: ControlCommand) -> None:
        """Do what another node, or this one, has told every node."""
        if isinstance(command, DisconnectClients):
            self._begin(self._meant(command), partial(_obey, command))
        elif isinstance(command, Revoke):
            self._revoke(command)

    def _meant(self, command: DisconnectClients) -> Iterable[Connection]:
        """Return those among whom all are that it is about."""
        if command.client:
            named = map(ConnectionId, (command.client, *command.clients))
            return [it for one in named if (it := self._connections.get(one)) is not None]
        return self._users.get(UserId(command.user), ()) if command.user else self._connections.values()

    # --- revocations: one look at everybody for all that have come, and not too often

    def due(self, now: float) -> float:
        """Look at everybody for what has come in the pause; the wheel calls."""
        del now
        self._look()
        return inf

    def _revoke(self, command: Revoke) -> None:
        if command.until <= self._clock.wall():
            return
        self._verifier.revoke(command)  # at once: who is let in from now on needs no second look
        self._fresh.append(command)
        if self._booked:
            return
        self._booked = True
        if self._clock.monotonic() >= self._rest_until:
            self._call_soon(self._look)
        else:
            self._wheel.schedule(self._rest_until, self)

    def _look(self) -> None:
        fresh, self._fresh = self._fresh, []
        _report(fresh)
        denied, now = Denylist(limit=len(fresh)), self._clock.wall()
        for revocation in fresh:
            denied.add(revocation, now)
        self._begin(self._connections.values(), partial(_judge, denied, now), self._rest)

    def _rest(self) -> None:
        self._rest_until = self._clock.monotonic() + PAUSE
        self._booked = bool(self._fresh)
        if self._fresh:
            self._wheel.schedule(self._rest_until, self)

    # --- walks: not too long at once, and all other work goes on between

    def _begin(self, connections: Iterable[Connection], look: Look, ended: Callable[[], None] = _nothing) -> None:
        self._walks.append(_Walk(iter(tuple(connections)), look, ended))
        if len(self._walks) == 1:
            self._call_soon(self._go_on)

    def _go_on(self) -> None:
        until = self._clock.monotonic() + SLICE
        try:
            while self._walks:
                self._step()
                if self._clock.monotonic() >= until:
                    break
        finally:  # even if one could not so much as be ended: the others are
            if self._walks:
                self._call_soon(self._go_on)

    def _step(self) -> None:
        walk, looked = self._walks[0], 0
        for looked, connection in enumerate(islice(walk.left, CHUNK), start=1):  # noqa: B007 - counted
            try:
                walk.look(connection)
            except Exception as error:  # noqa: BLE001 - a root: whatever is wrong with one, the others are closed
                connection.failed(error, "task")
        if looked < CHUNK:
            self._walks.popleft()
            walk.ended()


def _obey(command: DisconnectClients, connection: Connection) -> None:
    identity = connection.session.identity
    if (
        connection.id not in command.whitelist
        and (not command.user or connection.user == command.user)
        and (not command.session_id or (identity is not None and identity.session_id == command.session_id))
    ):
        connection.close(Disconnect(command.code, command.reason))


def _judge(denied: Denylist, now: float, connection: Connection) -> None:
    session = connection.session
    barred = None if session.identity is None else denied.find(session.identity, now)
    if barred is not None:
        connection.close(Disconnect(barred.code, barred.reason))
        return
    if session.by_token:
        for channel, why in session.resting_on(lambda identity: denied.find(identity, now)):
            # as with connections: whose key is dropped is to come back with another token
            reason = UNSUBSCRIBED_EXPIRED if why.key_id else UNSUBSCRIBED_BY_SERVER
            connection.perform(session.unsubscribe(channel, reason))


def _report(fresh: list[Revoke]) -> None:
    for revocation in fresh[:LOGGED]:
        kind, value = subject(revocation)
        digest = sha256(value.encode()).hexdigest()[:12]
        log.info("token.revoked", kind=kind, digest=digest, until=revocation.until)
    if len(fresh) > LOGGED:
        log.info("token.revoked_more", count=len(fresh) - LOGGED)
