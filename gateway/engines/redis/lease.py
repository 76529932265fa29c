"""This node's registration in one partition, and what is entered under it: renewed, lost, begun anew."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any, Final, Literal, TypeAlias

import structlog

from gateway.contracts.broker import Done
from gateway.contracts.engine import EngineOptions
from gateway.engines.redis.envelope import Envelope
from gateway.engines.redis.packing import Args
from gateway.engines.redis.partition import Partition, milliseconds
from gateway.engines.redis.reaper import Reaper
from gateway.engines.redis.wire import Answered
from gateway.errors import EngineFault
from gateway.types import Channel, ClientInfo, ConnectionId

BATCH: Final = 256  # entries under way while everything is entered anew
OVERDUE_AT_ONCE: Final = 64  # dead incarnations told by one look; the others by later ones
FORMER: Final = 16  # incarnations kept alive until they are cleaned up; older ones run out
RENEWALS_PER_LEASE: Final = 4  # three may fail before the lease is lost
PATIENCE_PER_LEASE: Final = 3 / 8  # longer than one renewal takes to come round
STANDS: Final = 1
RAN_OUT: Final = -1  # it was there, and nobody had renewed it in time
NO_LEASE: Final = -1
NO_REFUSAL: Final = ("refused", "the lease of this node has ended")
RECONNECTED: Final = "the link was built again"
REFUSED: Final = "a removal was refused"
UNANSWERED: Final = "no answer"
OVERDUE: Final = "not renewed in time"
LATE: Final = "the lease had run out"
GONE: Final = "the lease had ended"
HARMLESS: Final = (RECONNECTED, REFUSED, UNANSWERED)
REFUSALS: Final = ("oom", "readonly", "refused", "busy")  # by a server that answers: to every node alike

log = structlog.get_logger(__name__)

Key: TypeAlias = tuple[Channel, ConnectionId]
Entry: TypeAlias = tuple[ClientInfo, bool]  # who, and whether joins and leaves are announced


class Lease:
    """All that an incarnation commands goes over one connection, and so takes effect in the order of the calls.

    A new connection, a lease that was lost or a removal that was refused begin the next incarnation: everything that
    the node holds at that moment is entered anew, a batch at a time. Calls do not wait for that. They go out at once,
    and strike what they are about from the list of what is still to be entered, so the last call stands. Scripts let
    nobody touch what a later incarnation of the same node holds, so whatever an old connection still had in flight
    comes too late to harm. The former incarnation is kept alive until all is entered, so that nobody is announced as
    gone; what is left under it then are removals that never arrived, and the node reaps them itself.

    `broke` is called when `broken` may have become true. Times are of `clock`, monotonic seconds.
    """

    def __init__(
        self,
        partition: Partition,
        *,
        clock: Callable[[], float],
        envelope: Envelope,
        options: EngineOptions,
        broke: Callable[[], None],
    ) -> None:
        self.partition = partition
        self.lost = False  # while what is entered anew had been lost
        self.refused = ""  # why Redis takes none of it; "" = it does, or has not been asked
        patience = options.presence_ttl * PATIENCE_PER_LEASE
        self.reaper = Reaper(partition, patience=patience, recorder=options.recorder)
        self._ttl = options.presence_ttl
        self._node = options.node
        self._clock = clock
        self._envelope = envelope
        self._broke = broke
        self._number = 1
        self._former: list[str] = []
        self._used = False  # somebody was entered, so there is a lease to renew
        self._begun: Literal["no", "asked", "yes"] = "no"
        self._entering = False  # anew
        self._refusal = NO_REFUSAL
        self._trouble = ""
        self._in_doubt = False  # a removal was refused: its entry must not live as long as we do
        self._commands = partition.commands
        self._built = partition.commands.built
        self._asked_at = self._refused_at = -inf
        self._renewed_at = 0.0  # when the last renewal that was answered had been sent
        self._waiting: dict[Key, Entry] = {}  # to be entered anew
        self._flying: dict[Key, Entry] = {}
        self._in_flight = 0
        self._entered_anew = 0

    @property
    def incarnation(self) -> str:
        """Under which entries are held."""
        return f"{self._node}.{self._number}"

    def broken(self) -> str:
        """Say why the next incarnation must begin, if it must and can."""
        commands = self.partition.commands
        if not self._used or not commands.answers:
            return ""
        if self._trouble:
            return self._trouble
        if self._begun == "yes" and self._clock() - self._renewed_at >= self._ttl:
            return OVERDUE
        if commands is not self._commands or commands.built != self._built:
            return RECONNECTED
        return ""

    def begin(self, why: str) -> None:
        """Begin the next incarnation; then come `hold` for all that the node holds, and `renew`, in the same turn.

        A lease that ran out because its renewals were refused was not lost: Redis answered, and this node was there.
        """
        refused = why in (OVERDUE, LATE) and self._clock() - self._refused_at < self._ttl
        self.lost = self.lost or not (refused or why in HARMLESS)
        if self._begun == "yes":
            self._former = [*self._former, self.incarnation][-FORMER:]
        self._number += 1
        self._begun, self._entering, self._in_doubt, self._trouble = "no", True, False, ""
        self._commands, self._built = self.partition.commands, self.partition.commands.built
        self._waiting, self._flying, self._in_flight, self._entered_anew = {}, {}, 0, 0

    def hold(self, channel: Channel, who: ClientInfo, announce: bool) -> None:
        """Enter this anew."""
        self._waiting[channel, who.client] = (who, announce)

    def due(self, now: float) -> bool:
        """Whether to renew, or to look after the dead."""
        if not self.partition.commands.answers:
            return False
        every = self._ttl / RENEWALS_PER_LEASE
        return now - self._asked_at >= every or self.reaper.impatient(self._asked_at, now)

    def renew(self) -> None:
        """Renew what this node has here, and look whose lease has run out; answers do the rest."""
        self._asked_at = self._clock()
        begins = self._used and self._begun == "no"
        if begins:
            self._begun = "asked"
        mine = self.incarnation if self._used else ""
        args: Args = (milliseconds(self._ttl), OVERDUE_AT_ONCE, mine, int(begins), *self._former)
        answered = partial(self._renewed, self._number, begins, self._asked_at)
        self.partition.run("renew", (self.partition.names.nodes,), args, answered)

    def add(self, channel: Channel, who: ClientInfo, announce: bool, done: Done[None]) -> None:
        """See `contracts.presence.PresenceStore`."""
        self._strike(channel, who.client)
        if not self._used:
            self._used = True
            self._commands, self._built = self.partition.commands, self.partition.commands.built
        if self._begun == "no":
            self.renew()

        def answered(number: int, reply: Any) -> None:
            if isinstance(reply, EngineFault):
                done(reply)
            elif reply == NO_LEASE:
                self._missing(number)
                done(EngineFault(*self._refusal))
            else:
                done(None)

        self._enter(channel, who, announce, partial(answered, self._number))

    def remove(self, channel: Channel, client: ConnectionId, announce: bool, done: Done[None]) -> None:
        """See `contracts.presence.PresenceStore`."""
        self._strike(channel, client)
        names = self.partition.names
        keys = (names.presence + channel, names.users + channel, names.owned + self.incarnation)
        args = (names.client + channel, client, self.incarnation, f"{client} {channel}", int(announce))

        def answered(number: int, reply: Any) -> None:
            if not isinstance(reply, EngineFault):
                done(None)
                return
            # A late one takes effect nevertheless, or the connection ends and the next incarnation begins.
            if reply.kind != "timeout" and number == self._number:
                self._in_doubt = True
            done(reply)

        self.partition.run("remove", keys, args, partial(answered, self._number))

    def retire(self, told: Answered) -> int:
        """Give back what holds no entry any more; returns how often `told` will be called."""
        leases = [*self._former, self.incarnation] if self._used else []
        names = self.partition.names
        for incarnation in leases:
            self.partition.run("retire", (names.nodes, names.owned + incarnation), (incarnation,), told)
        return len(leases)

    # --- inside

    def _strike(self, channel: Channel, client: ConnectionId) -> None:
        """What is called now overrides what was to be entered anew."""
        self._waiting.pop((channel, client), None)
        self._flying.pop((channel, client), None)

    def _enter(self, channel: Channel, who: ClientInfo, announce: bool, answered: Answered) -> None:
        names, incarnation = self.partition.names, self.incarnation
        keys = (names.presence + channel, names.users + channel, names.owned + incarnation, names.nodes)
        blob, member = self._envelope.client(who), f"{who.client} {channel}"
        args = (names.client + channel, who.client, incarnation, who.user, blob, member, int(announce))
        self.partition.run("add", keys, args, answered)

    def _renewed(self, number: int, began: bool, sent_at: float, reply: Any) -> None:
        if isinstance(reply, EngineFault):
            self._not_renewed(reply, began=began and number == self._number)
            return
        standing, overdue = reply
        self.reaper.saw(overdue, self._clock())
        if number != self._number or not self._used:
            return
        if standing != STANDS:
            self._missing(number, LATE if standing == RAN_OUT else GONE)
            return
        self._renewed_at = sent_at
        if began:
            self._begun, self._refusal = "yes", NO_REFUSAL
            self.refused = self.refused if self._entering else ""
        if self._in_doubt:
            self._trouble = REFUSED
            self._broke()
        elif self._begun == "yes":
            self._go_on()

    def _not_renewed(self, fault: EngineFault, *, began: bool) -> None:
        """Refused, it was not done and is asked for again. Late, it may have been, and what came after it been lost."""
        if fault.kind in REFUSALS:
            self._refused_at = self._clock()
        if not began:
            return
        if fault.kind == "timeout":
            self._trouble = UNANSWERED
        elif fault.kind != "lost":
            self._begun, self._refusal = "no", (fault.kind, fault.detail)
            self._note_refusal(fault)

    def _note_refusal(self, fault: EngineFault) -> None:
        if fault.kind in REFUSALS:
            self.refused = fault.kind

    def _missing(self, number: int, why: str = GONE) -> None:
        if number == self._number and self._begun == "yes":
            self._trouble = why
            self._broke()

    def _go_on(self) -> None:
        """Enter what is still to be entered; then clean up."""
        while self._waiting and self._in_flight < BATCH:
            key, entry = self._waiting.popitem()
            self._flying[key] = entry
            self._in_flight += 1
            self._enter(key[0], *entry, partial(self._entered, self._number, key))
        if self._entering and not self._waiting and not self._in_flight:
            self._entering, self.lost, self.refused = False, False, ""
            log.info("redis.presence_entered", incarnation=self.incarnation, entries=self._entered_anew)
        if not self._entering:
            for incarnation in self._former:
                self.reaper.reap(incarnation, own=True, finished=partial(self._cleaned, incarnation))

    def _entered(self, number: int, key: Key, reply: Any) -> None:
        if number != self._number:
            return
        self._in_flight -= 1
        entry = self._flying.pop(key, None)
        if reply == NO_LEASE:
            self._missing(number)
        elif isinstance(reply, EngineFault) and reply.kind != "timeout":
            self._note_refusal(reply)
            if entry is not None:
                self._waiting[key] = entry  # until the next renewal
        else:
            self.refused = ""
            self._entered_anew += 1
            self._go_on()

    def _cleaned(self, incarnation: str) -> None:
        self._former = [it for it in self._former if it != incarnation]
