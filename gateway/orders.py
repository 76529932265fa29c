"""What every node was told to do: close connections, and bar tokens and close what they have opened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from math import inf
from typing import Final

import structlog

from gateway.connection import Connection
from gateway.contracts.clock import Clock
from gateway.contracts.verifier import Verifier
from gateway.disconnects import UNSUBSCRIBED_BY_SERVER, UNSUBSCRIBED_EXPIRED, Disconnect
from gateway.protocol.messages import ControlCommand, DisconnectClients, Revoke
from gateway.protocol.revocations import Denylist, subject
from gateway.timers import TimerWheel
from gateway.types import ConnectionId, UserId

SLICE: Final = 0.002  # seconds of a turn for looking through connections; all other work goes on between
PAUSE: Final = 0.1  # seconds between two looks at everybody, however many revocations come
CHUNK: Final = 64  # connections between two looks at the clock
LOGGED: Final = 20  # revocations at once; a node that starts may be told of thousands

log = structlog.get_logger(__name__)


class Orders:
    """Carries out control commands on the connections of this node; each may come more than once."""

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
        self._walk: Iterator[None] | None = None
        self._booked = False  # somebody will look
        self._rest_until = 0.0

    def carry_out(self, command: ControlCommand) -> None:
        """Do what another node, or this one, has told every node."""
        if isinstance(command, DisconnectClients):
            disconnect = Disconnect(command.code, command.reason)
            for connection in tuple(self._matching(command)):
                connection.close(disconnect)
        elif isinstance(command, Revoke):
            self._revoke(command)

    def _matching(self, command: DisconnectClients) -> Iterable[Connection]:
        found: Iterable[Connection] = self._connections.values()
        if command.client:
            named = map(ConnectionId, (command.client, *command.clients))
            found = [it for one in named if (it := self._connections.get(one)) is not None]
        elif command.user:
            found = self._users.get(UserId(command.user), ())
        for connection in found:
            identity = connection.session.identity
            if (
                connection.id not in command.whitelist
                and (not command.user or connection.user == command.user)
                and (not command.session_id or (identity is not None and identity.session_id == command.session_id))
            ):
                yield connection

    # --- revocations: one look at everybody for all that have come, not too often, and not too long at once

    def due(self, now: float) -> float:
        """Look at everybody for what has come in the pause; the wheel calls."""
        del now
        self._go_on()
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
            self._call_soon(self._go_on)
        else:
            self._wheel.schedule(self._rest_until, self)

    def _go_on(self) -> None:
        if self._walk is None:
            fresh, self._fresh = self._fresh, []
            self._walk = self._closing(fresh, tuple(self._connections.values()))
        until = self._clock.monotonic() + SLICE
        for _ in self._walk:
            if self._clock.monotonic() >= until:
                self._call_soon(self._go_on)
                return
        self._walk = None
        self._rest_until = self._clock.monotonic() + PAUSE
        self._booked = bool(self._fresh)
        if self._fresh:
            self._wheel.schedule(self._rest_until, self)

    def _closing(self, fresh: list[Revoke], connections: Iterable[Connection]) -> Iterator[None]:
        """Look at some connections at a time."""
        _report(fresh)
        denied, now = Denylist(limit=len(fresh)), self._clock.wall()
        for revocation in fresh:
            denied.add(revocation, now)
        for number, connection in enumerate(connections, start=1):
            try:
                _look_at(connection, denied, now)
            except Exception as error:  # noqa: BLE001 - a root: whatever is wrong with one, the others are closed
                connection.failed(error, "task")
            if number % CHUNK == 0:
                yield


def _look_at(connection: Connection, denied: Denylist, now: float) -> None:
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
