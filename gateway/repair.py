"""Channels of which publications may be missing are read again and mended, so that their recipients notice nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Final

import structlog

from gateway.contracts.broker import History
from gateway.contracts.clock import Clock
from gateway.contracts.recorder import Recorder
from gateway.errors import EngineFault
from gateway.hub import Hub, Interest
from gateway.protocol.repair import FIRST_PAGE, HELD_LIMIT, Repair, Stage, mend
from gateway.protocol.values import HistoryPage, HistoryQuery
from gateway.timers import TimerWheel
from gateway.types import Channel, Publication

READS: Final = 64  # in flight at once: after a lost link, every channel of the node is to be read
PUBLICATIONS: Final = 1024  # asked for at once, in all of these together: 64 MiB at most, if each has 64 KiB
HELD_BY_ALL: Final = 64 * HELD_LIMIT  # bytes held in all suspect channels of the node together
FIRST_PAUSE: Final = 0.25  # seconds until what failed is tried again, doubled up to the last
LAST_PAUSE: Final = 2.0
UNANSWERED: Final = ("timeout", "lost")  # other faults come at once, and perhaps from one server of several
REFUSED_SECONDS: Final = 60.0  # of nothing but refusals: this channel's key is broken, or not ours to read
OVERFLOWS: Final = 3  # in a row: then the channel waits like one whose read has failed
CHECK_PERIOD: Final = 40.0  # seconds between two looks at the position of a channel
CHECK_STEP: Final = 0.1  # seconds between two slices of them
CHECK_READS: Final = 64  # in flight at once
CHECK_HASTE: Final = 4  # times the usual slice, when the node stood still and has looked at too few

log = structlog.get_logger(__name__)


class Repairs:
    """All suspect channels of a node: one history read at a time for each, and so many for all of them.

    A channel stays suspect until a read has said what is missing, however long that takes: the engine may be away.
    `deliver` passes one publication on. Looked at by the timer wheel while something is to be tried again.
    """

    def __init__(
        self,
        *,
        hub: Hub,
        clock: Clock,
        recorder: Recorder,
        wheel: TimerWheel,
        deliver: Callable[[Interest, Publication], None],
    ) -> None:
        self.history: History | None = None
        self.timer_tick = 0
        self._hub = hub
        self._clock = clock
        self._recorder = recorder
        self._wheel = wheel
        self._deliver = deliver
        self._urgent: deque[tuple[Interest, Repair]] = deque()  # those that hold something
        self._others: deque[tuple[Interest, Repair]] = deque()
        self._failed: list[tuple[Interest, Repair]] = []
        self._reading = 0
        self._asked_for = 0  # publications
        self._held = 0  # bytes
        self._paused = False  # the engine does not answer: nothing is read until the next attempt
        self._pause = FIRST_PAUSE
        self._retry_at = inf

    def begin(self, interest: Interest, where: str) -> Repair:
        """Make a channel suspect, because of what was noticed `where`; reads are sent by the next `go_on`."""
        repair = interest.repair
        if repair is not None:
            repair.doubt()
            return repair
        self._recorder.count("gaps_detected", where)
        repair = interest.repair = Repair(self._clock.monotonic(), page=FIRST_PAGE)
        self._others.append((interest, repair))
        return repair

    def hold(self, interest: Interest, repair: Repair, publication: Publication) -> None:
        """Keep what arrives in a suspect channel until it can follow what is missing."""
        before = repair.size
        if not repair.hold(publication, room=HELD_BY_ALL - self._held):
            self._recorder.count("repairs", "overflow")
        elif not before and repair.stage is Stage.WAITING:
            self._urgent.append((interest, repair))  # its other entry is passed over
        self._held += repair.size - before

    def go_on(self, *, at_once: bool = False) -> None:
        """Send what reads may be sent. `at_once`: what failed before may work now."""
        if at_once:
            self._retry()
        while self._has_room() and not self._paused and (chosen := self._next()) is not None:
            self._read(*chosen)

    def due(self, now: float) -> float:
        """Try again what failed."""
        if now >= self._retry_at:
            self._retry()
            self.go_on()
        return self._retry_at

    # --- inside

    def _has_room(self) -> bool:
        return self._reading < READS and self._asked_for + FIRST_PAGE <= PUBLICATIONS

    def _next(self) -> tuple[Interest, Repair] | None:
        for queue in (self._urgent, self._others):
            while queue:
                interest, repair = queue.popleft()
                if repair.stage is Stage.WAITING and self._is_wanted(interest, repair):
                    return interest, repair
        return None

    def _is_wanted(self, interest: Interest, repair: Repair) -> bool:
        """Whether this repair still is one; with the last recipient of a channel it is over."""
        if self._hub.interests.get(interest.channel) is interest and interest.repair is repair:
            return True
        self._held -= repair.size
        repair.drop()
        return False

    def _read(self, interest: Interest, repair: Repair) -> None:
        position = interest.position
        assert self.history is not None, "positions without history"  # noqa: S101 - only history numbers publications
        assert position is not None  # noqa: S101 - it is never forgotten
        repair.sent()
        limit = min(repair.page, PUBLICATIONS - self._asked_for)
        self._reading += 1
        self._asked_for += limit
        query = HistoryQuery(limit, position, meta_ttl=interest.meta_ttl)
        self.history.read(interest.channel, query, partial(self._answered, interest, repair, limit))

    def _answered(self, interest: Interest, repair: Repair, limit: int, page: HistoryPage | EngineFault) -> None:
        self._reading -= 1
        self._asked_for -= limit
        try:
            if not self._is_wanted(interest, repair):
                pass
            elif isinstance(page, EngineFault):
                self._refuse(interest, repair, page)
            else:
                self._pause = FIRST_PAUSE
                self._mend(interest, repair, page)
        finally:
            self.go_on()

    def _mend(self, interest: Interest, repair: Repair, page: HistoryPage) -> None:
        assert interest.position is not None  # noqa: S101 - see `_read`
        others = [held.position for held in interest.joining.values() if held.position is not None]
        mending = mend(interest.position, page, repair, others)
        before, whole = repair.size, repair.answered(mending)
        self._held += repair.size - before
        try:
            if mending.lost:
                interest.go_on(mending.start)
            for publication in mending.publications:
                self._deliver(interest, publication)
            if whole:
                interest.mended()
                self._recorder.count("repairs", "lost" if repair.lost else "full" if repair.fetched else "empty")
                self._recorder.observe("repair_duration", self._clock.monotonic() - repair.since)
        finally:  # also when one could not be delivered: the next read begins behind it
            if interest.repair is repair:
                self._again(interest, repair)

    def _again(self, interest: Interest, repair: Repair) -> None:
        if repair.overflows >= OVERFLOWS:
            repair.overflows = 0
            self._fail(interest, repair, pause=False)
        else:
            (self._urgent if repair.held else self._others).append((interest, repair))

    def _refuse(self, interest: Interest, repair: Repair, fault: EngineFault) -> None:
        """Try again later; where nothing but refusals come, go on without what is missing, and say so."""
        now = self._clock.monotonic()
        if fault.kind != "refused":
            repair.refused_since = inf
        elif repair.refused(now) >= REFUSED_SECONDS:
            log.error("repair.given_up", channel=interest.channel, why=fault.detail)
            self._held -= repair.size
            repair.drop()
            interest.give_up()
            self._recorder.count("repairs", "lost")
            self._recorder.observe("repair_duration", now - repair.since)
            return
        self._fail(interest, repair, pause=fault.kind in UNANSWERED)

    def _fail(self, interest: Interest, repair: Repair, *, pause: bool) -> None:
        self._recorder.count("repairs", "failed")
        repair.stage = Stage.FAILED
        self._failed.append((interest, repair))
        self._paused = self._paused or pause
        if self._retry_at == inf:
            self._retry_at = self._clock.monotonic() + self._pause
            self._pause = min(2 * self._pause, LAST_PAUSE)
            self._wheel.schedule(self._retry_at, self)

    def _retry(self) -> None:
        failed, self._failed = self._failed, []
        for interest, repair in failed:
            repair.stage = Stage.WAITING
            (self._urgent if repair.held else self._others).append((interest, repair))
        self._paused = False
        self._retry_at = inf


class PositionCheck:
    """Looks at every channel once a period, a slice of them at a time, and reads the top of those that were silent.

    A publication that is lost and followed by none is noticed by nothing else.
    """

    def __init__(self, *, hub: Hub, repairs: Repairs, now: float) -> None:
        self.timer_tick = 0
        self._hub = hub
        self._repairs = repairs
        self._round: list[Channel] = []
        self._began = now - CHECK_PERIOD
        self._looked = 0
        self._target = 0
        self._reading = 0

    def due(self, now: float) -> float:
        """Look at the next slice, as far as answers keep up."""
        channels = len(self._round)
        most = self._looked + 1 + int(CHECK_HASTE * channels * CHECK_STEP / CHECK_PERIOD)
        self._target = min(channels, most, int(channels * (now - self._began) / CHECK_PERIOD))
        self._go_on()
        if self._looked == channels and now >= self._began + CHECK_PERIOD:
            self._round, self._began, self._looked, self._target = list(self._hub.interests), now, 0, 0
        return now + CHECK_STEP

    def _go_on(self) -> None:
        while self._looked < self._target and self._reading < CHECK_READS:
            self._looked += 1
            self._look(self._round[self._looked - 1])

    def _look(self, channel: Channel) -> None:
        interest = self._hub.interests.get(channel)
        if interest is None or interest.position is None or interest.repair is not None:
            return
        seen, interest.seen = interest.seen, interest.position.offset
        history = self._repairs.history
        if seen == interest.seen and history is not None:
            self._reading += 1
            history.read(channel, HistoryQuery(meta_ttl=interest.meta_ttl), partial(self._answered, interest))

    def _answered(self, interest: Interest, page: HistoryPage | EngineFault) -> None:
        """Compare, and look at the next."""
        self._reading -= 1
        try:
            self._compare(interest, page)
        finally:
            self._go_on()

    def _compare(self, interest: Interest, page: HistoryPage | EngineFault) -> None:
        """See what was lost; what has arrived since the read was sent is compared the next time."""
        position = interest.position
        if isinstance(page, EngineFault) or position is None or position.offset != interest.seen:
            return
        if page.top != position and self._hub.interests.get(interest.channel) is interest:
            self._repairs.begin(interest, "position_check")
            self._repairs.go_on()
