"""The shell of one session: frames in, commands to the session, effects performed, until the link is gone."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Literal, cast

import structlog

from gateway import accounting
from gateway.contracts.codec import Dialect
from gateway.contracts.transport import Receiver, Transport
from gateway.disconnects import INTERNAL_ERROR, SLOW, Disconnect
from gateway.errors import DecodeError
from gateway.hearing import Hearer
from gateway.joining import Seat, leave
from gateway.performing import PERFORM, fall_behind
from gateway.protocol.effects import Effect, Outcome, Send
from gateway.protocol.messages import Push, Reply
from gateway.protocol.session import Phase, Session
from gateway.recipients import Group
from gateway.shell import Shell
from gateway.types import Channel, Position, UserId
from gateway.waiting import Heard

log = structlog.get_logger(__name__)


class Connection(Hearer, Receiver):
    """One live link. Receives from its transport, is delivered to by the hub, is looked at by the wheel."""

    __slots__ = (
        "booked",
        "closing",
        "dialect",
        "heartbeat",
        "opened_at",
        "received_count",
        "returning",
        "sent_count",
        "timer_tick",
    )

    def __init__(
        self,
        *,
        session: Session,
        dialect: Dialect,
        group: Group,
        heartbeat: Literal["application", "frame"],
        transport: Transport,
        shell: Shell,
    ) -> None:
        super().__init__(session=session, group=group, transport=transport, shell=shell)
        self.dialect = dialect
        self.heartbeat = heartbeat
        self.returning: tuple[Channel, Seat] | None = None  # its subscription is being ended, and may be renewed
        self.closing: Disconnect | None = None
        self.timer_tick = 0
        self.booked = inf  # when the wheel looks at us next
        self.opened_at = shell.clock.monotonic()
        self.received_count = self.sent_count = 0

    @property
    def user(self) -> UserId:
        """The user, "" before it is known."""
        identity = self.session.identity
        return identity.user if identity is not None else UserId("")

    def begin(self) -> None:
        """Do what the handshake itself asked for."""
        self.take(self.dialect.open())

    def received(self, payload: bytes, text: bool) -> None:
        """Take one data message."""
        self.received_count += 1
        try:
            self.hear(self.dialect.decode(payload, text))
        except DecodeError as error:
            self.hear([*cast("Sequence[Heard]", error.before), error])

    def ponged(self) -> None:
        """Take a pong frame."""
        if self.heartbeat == "frame":
            self.shell.recorder.count("messages_received", "pong")
            self.session.ponged()

    def writable(self, yes: bool) -> None:
        """Stop or resume writing."""
        if yes:
            self.unblock()
        else:
            self.block(self.shell.clock.monotonic())
            self.book()

    def lost(self, code: int | None, initiator: Literal["client", "server", "network"]) -> None:
        """Take note that the link is gone; the last call."""
        if self.closing is not None:
            code, initiator = self.closing.code, "server"
        self._depart()
        accounting.end(self, code, initiator)
        self.shell.wheel.forget(self)
        self.shell.forgotten(self)

    def positioned(self, channel: Channel) -> bool:
        """Whether the session keeps a position in a channel, and so is to be told when something is missing."""
        subscription = self.session.subscriptions.get(channel)
        return subscription is None or subscription.positioned

    def insufficient(self, channel: Channel, position: Position | None) -> None:
        """Tell the session that publications after `position` are missing."""
        fall_behind(self, channel, position)

    def close(self, disconnect: Disconnect) -> None:
        """End the connection: socket first, then everything else."""
        if disconnect is not SLOW:
            self._spill()
        if self.gone:
            return  # since long, or just now: what was spilt was too much
        self.closing = disconnect
        accounting.count_close(self.shell.recorder, disconnect)
        if disconnect is SLOW:
            self.shell.recorder.count("slow_consumers", "bytes" if self.queued > self.limit else "age")
            self.discard()
        else:
            for payload in self.dialect.farewell(disconnect):
                self.put(self.group.framing.frame(payload, self.group.codec.text))
            self.blocked = False  # the close frame goes behind what is queued, wherever that waits
            self.flush()
        self.transport.close(disconnect, self.shell.close_timeout)
        self._depart()

    def due(self, now: float) -> float:
        """Do what the deadlines ask for; the wheel calls."""
        if self.blocked and self.stalled(now, self.shell.stall_timeout):
            self.close(SLOW)
        elif self.blocked:
            self.session.congested(now)
        try:
            if self.session.deadline <= now:
                self.perform(self.session.tick(now))
        except Exception as error:  # noqa: BLE001 - a root: without its deadlines a connection would stay for ever
            self.failed(error, "task")
        self.booked = self._deadline()
        return self.booked

    def resume(self, channel: Channel | None = None) -> None:
        """Slow work has ended, in `channel`: hand over what waited for it."""
        if channel is not None:
            self.hear(self.waiting.free(channel))
        if self.waiting.for_connect and self.session.phase is not Phase.VERIFYING:
            queue = self.waiting.free_all()
            if self.session.phase is Phase.OPEN:
                self.shell.opened(self)
                self.hear(queue)
            else:
                self.waiting.clear()
        self.book()
        self.pace()

    def answered(self, effect: Effect, outcome: Outcome) -> None:
        """Take the end of an engine call."""
        self.in_flight -= 1
        self.resolve(effect, outcome)
        self.pace()

    def resolve(self, effect: Effect, outcome: Outcome) -> None:
        """Hand an outcome to the session. A root: it is called by the engine, which no connection may break."""
        if self.gone:
            return
        try:
            self.perform(self.session.resolve(effect, outcome, self.shell.clock.monotonic()))
        except Exception as error:  # noqa: BLE001 - see above
            self.failed(error, "frame")

    def failed(self, error: Exception, root: str) -> None:
        """End the connection after an error of ours."""
        self.shell.recorder.count("errors", root)
        log.error("connection.failed", connection=self.id, root=root, exc_info=error)
        self.close(INTERNAL_ERROR)

    def perform(self, effects: list[Effect]) -> None:
        """Perform effects in order; after a close, none."""
        for effect in effects:
            if self.gone:
                return
            if type(effect) is Send:  # as most are
                self.send(effect.message)
            else:
                PERFORM[type(effect)](self, effect)

    def send(self, message: Reply | Push) -> None:
        """Encode for this client and put into the outbox; then hand over what the dialect itself asks."""
        encoded = self.dialect.encode(message)
        accounting.count_sent(self.shell.recorder, message)
        self._spill()
        if self.gone:
            return  # what was spilt was too much
        text = self.group.codec.text if encoded.text is None else encoded.text
        for payload in encoded.payloads:
            self.sent_count += 1
            if (disconnect := self.put(self.group.framing.frame(payload, text))) is not None:
                self.close(disconnect)
                return
        self.take(encoded.commands)

    def book(self) -> None:
        """Have the wheel look at us in time, if it is to be sooner than it was."""
        deadline = self._deadline()
        if deadline < self.booked:
            self.booked = deadline
            self.shell.wheel.schedule(deadline, self)

    def _spill(self) -> None:
        """Let what this turn has collected in our channels go ahead of what comes next."""
        if self.seats and (sources := self.flusher.sources) and not self.seats.keys().isdisjoint(sources.keys()):
            self.shell.tools.hub.spill(self.seats.keys() & sources.keys())

    def _deadline(self) -> float:
        if self.blocked and not self.gone:
            return min(self.session.deadline, self.look_at(self.shell.stall_timeout))
        return inf if self.gone else self.session.deadline

    def _depart(self) -> None:
        if self.gone:
            return
        self.gone = True
        self.session.close()
        for channel, seat in reversed(tuple(self.seats.items())):
            if not seat.joining:
                leave(channel, self, self.shell.tools)
        self.waiting.clear()
        self.discard()
