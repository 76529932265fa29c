"""What one client saw in one channel; small however long a run lasts: what arrived in order is one position."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from gateway.types import Position
from loadtests.oracle.dumps import LogDump
from loadtests.oracle.hearing import Hearing
from loadtests.oracle.ledger import Ledger
from loadtests.oracle.offences import How, Kind, Offence


class Log:
    """What one client saw in one channel, in order; `position` is where it would recover from."""

    def __init__(self, client: str, channel: str, ledger: Ledger, *, timed: bool = True) -> None:
        self.client = client
        self.channel = channel
        self.position: Position | None = None
        self.listening = False
        self.deliveries = 0
        self.repeats = 0  # the same publication again on the wire
        self.twice = 0  # of these, to one subscription without a return between
        self.timed = timed  # its deliveries are: those of slow clients are their own doing
        self.torn = False  # it is away against its will
        self.hearing = Hearing(ledger.page(channel).endings.newest)  # in a channel without history
        self.tells: Counter[How] = Counter()
        self.epochs: list[str] = []  # those it followed, in order
        self._ledger = ledger
        self._from = 0  # the offset that its subscription began behind
        self._missing: dict[tuple[str, int], None] = {}  # passed over; a late arrival takes it out again
        self._offences: list[Offence] = []

    @property
    def missing(self) -> Iterable[tuple[str, int]]:
        """Epochs and offsets that were passed over, and did not come later."""
        return self._missing

    @property
    def offences(self) -> Iterable[Offence]:
        """What is wrong whatever comes: all but what is missing at the end."""
        yield from self._offences
        yield from self._gaps()

    def subscribed(
        self, position: Position, *, recovered: bool, asked: bool, publications: Iterable[tuple[int, int]] = ()
    ) -> None:
        """A subscription stands. `asked`: with recovery; then `publications` (offset, number) follow if `recovered`."""
        held, self.listening = self.position, True
        if not position.epoch:
            self.hearing.resume(willing=not self.torn)
        self.torn = False
        if asked and held is not None and recovered:
            self._from = held.offset
            if position.epoch != held.epoch:
                self._blame("silent epoch", held.epoch, held.offset, f"recovered into {position.epoch!r}")
                self._begin(position)
        else:
            if asked and held is not None:
                self.tells["unrecovered"] += 1
            self._begin(position)
        for offset, number in publications:
            self.publication(offset, number)

    def publication(self, offset: int, number: int, epoch: str = "") -> None:
        """A publication arrived; offset 0 in a channel without history, `epoch` where the push names one."""
        self.deliveries += 1
        if not offset:
            if later := self.hearing.hear(number):
                self._late(number, later)
            return
        held = self.position
        if held is None:
            self._blame("inversion", epoch, offset, "came before any subscription")
            return
        if epoch and epoch != held.epoch and held.epoch:
            self._blame("silent epoch", held.epoch, held.offset, f"got a publication of {epoch!r}")
            held = self._begin(Position(offset - 1, epoch))
        elif epoch and not held.epoch:
            held = self._begin(Position(held.offset, epoch))
        self._ledger.saw(self.channel, Position(offset, held.epoch), number, self.client)
        if offset > held.offset:
            self._missing.update(((held.epoch, it), None) for it in range(held.offset + 1, offset))
            held.offset = offset
        elif (held.epoch, offset) in self._missing:
            del self._missing[held.epoch, offset]
            self._blame("inversion", held.epoch, offset, f"came after {held.offset}")
        else:
            self._repeated(again=offset > self._from)

    def told(self, how: How) -> None:
        """The client was told that it may have missed something; it will subscribe anew."""
        self.tells[how] += 1
        self.away()

    def away(self, *, willing: bool = False) -> None:
        """The connection or the subscription ended without a word about losses; `willing`: by its own doing."""
        self.torn = self.torn or (self.listening and not willing)
        self.listening = False

    def attend(self) -> None:
        """Nothing has been published yet: whatever is from now on, it has to hear."""
        self.hearing.attentive = self.listening

    def dump(self) -> LogDump:
        """Return all of it, for `restored` in another process."""
        return LogDump(
            client=self.client,
            channel=self.channel,
            listening=self.listening,
            deliveries=self.deliveries,
            position=self.position,
            newest=self.hearing.newest,
            attentive=self.hearing.attentive,
            repeats=self.repeats,
            tells=dict(self.tells),
            epochs=self.epochs,
            missing=list(self._missing),
            offences=self._offences,
            holes=self.hearing.holes,
            since=None if self.position is None or self.position.epoch else self.hearing.floors(),
            absences=self.hearing.absences,
            twice=self.twice,
            timed=self.timed,
            torn=self.torn,
        )

    @classmethod
    def restored(cls, dump: LogDump, ledger: Ledger) -> Log:
        """Return the log that another process kept, to be judged."""
        log = cls(dump.client, dump.channel, ledger, timed=dump.timed)
        log.position, log.listening = dump.position, dump.listening
        log.deliveries, log.repeats, log.twice = dump.deliveries, dump.repeats, dump.twice
        log.torn = dump.torn
        log.tells.update(dump.tells)
        log.epochs = dump.epochs
        log._missing.update(dict.fromkeys(dump.missing))
        log._offences = dump.offences
        log.hearing = hearing = Hearing({})  # the judge's ledger does not know which speakers were known there
        hearing.newest, hearing.holes, hearing.attentive = dump.newest, dump.holes, dump.attentive
        hearing.since, hearing.absences = dump.since, dump.absences
        return log

    # --- inside

    def _begin(self, position: Position) -> Position:
        self.position = begun = Position(position.offset, position.epoch)
        self._from = position.offset
        if position.epoch not in self.epochs:
            self.epochs.append(position.epoch)
        return begun

    def _late(self, number: int, later: int) -> None:
        if later == number:
            self._repeated()
        self._blame("inversion", "", 0, f"number {number} came after {later}")

    def _repeated(self, *, again: bool = True) -> None:
        self.repeats += 1
        self.twice += again

    def _blame(self, kind: Kind, epoch: str, offset: int, detail: str) -> None:
        self._offences.append(Offence(kind, self.channel, self.client, epoch, offset, 0, detail))

    def _gaps(self) -> Iterable[Offence]:
        gaps: list[tuple[str, int, int]] = []
        for epoch, offset in sorted(self._missing):
            if gaps and gaps[-1][0] == epoch and gaps[-1][2] == offset - 1:
                gaps[-1] = (epoch, gaps[-1][1], offset)
            else:
                gaps.append((epoch, offset, offset))
        return [Offence("silent gap", self.channel, self.client, *gap) for gap in gaps]
