"""A channel of which publications may be missing: what is held meanwhile, and how history joins with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import Final

from gateway.protocol.values import HistoryPage
from gateway.types import Position, Publication

HELD_LIMIT: Final = 1 << 20  # bytes of publication data held back at one place
FIRST_PAGE: Final = 16  # publications in the first read of a repair; few have lost more
PAGE: Final = 256  # in one read, after ever larger ones that did not reach to the top
EVENT_COST: Final = 100  # bytes counted for an event beside its data


class Stage(Enum):
    """Where a repair stands."""

    WAITING = 1  # for its turn to read
    READING = 2
    FAILED = 3  # for the next attempt


@dataclass(eq=False, slots=True)
class Repair:
    """What a suspect channel has beside its position; `since` is monotonic seconds.

    While it lasts, publications are held, and history is read until it joins them without a hole. What arrived before
    a read was sent is in the page, or in no stream any more; what arrives later may be beyond the page.
    """

    since: float
    stage: Stage = Stage.WAITING
    held: list[Publication] = field(default_factory=list)
    size: int = 0
    known: int = 0  # how many of the held ones came before the read under way was sent
    stale: bool = False  # something may be missing of which the read under way knows nothing
    overflows: int = 0  # in a row
    fetched: int = 0  # publications that only history had
    lost: bool = False  # somebody could not be continued
    refused_since: float = inf  # when the first of the reads was sent back that have all been refused since
    page: int = FIRST_PAGE  # how many publications the next read may bring

    def hold(self, publication: Publication, room: int = HELD_LIMIT) -> bool:
        """Keep a publication until the channel is mended. False: too much is held, all of it must be read again.

        `room`: bytes that are left for all repairs together.
        """
        cost = EVENT_COST + len(publication.data)
        if self.size + cost <= HELD_LIMIT and cost <= room:
            self.held.append(publication)
            self.size += cost
            return True
        self.drop()
        self.overflows += 1
        self.doubt()
        return False

    def doubt(self) -> None:
        """Note that publications may be missing up to now: a read that is under way does not settle that."""
        self.stale = self.stage is Stage.READING

    def refused(self, now: float) -> float:
        """Take that a read was refused; returns for how many seconds there has been nothing else."""
        self.refused_since = min(self.refused_since, now)
        return now - self.refused_since

    def drop(self) -> None:
        """Forget what is held."""
        self.held.clear()
        self.size = self.known = 0

    def sent(self) -> None:
        """Note that a read is sent now."""
        self.stage = Stage.READING
        self.stale = False
        self.known = len(self.held)

    def answered(self, mending: Mending) -> bool:
        """Take what a page has brought. True: nothing is missing any more."""
        self.held = list(mending.beyond)
        self.size = sum(EVENT_COST + len(it.data) for it in self.held)
        self.fetched += mending.fetched
        self.lost = self.lost or mending.lost
        self.refused_since = inf
        if not self.stale:
            self.overflows = 0
        if not mending.whole:
            self.page = min(2 * self.page, PAGE)
        self.stage = Stage.WAITING
        return mending.whole and not self.stale


@dataclass(slots=True)
class Mending:
    """How a channel goes on: `publications` follow `start` one by one.

    `lost`: `start` is not where the channel stood; who stands before it, or in another stream, cannot be continued.
    `fetched`: how many of the publications only the page had. `beyond`: what must be held until another page joins it.
    `whole`: this is all there is.
    """

    start: Position
    lost: bool
    publications: list[Publication]
    fetched: int
    beyond: Sequence[Publication]
    whole: bool


def mend(position: Position, page: HistoryPage, repair: Repair, others: Iterable[Position] = ()) -> Mending:
    """Join the page that was read since `position`, where the channel stands, with what is held.

    The page may end before its top, and may have holes. `others` are positions that recipients have from replies of
    their own: in a new stream the channel goes on from the first of them, so that these miss nothing.
    """
    epoch, top = page.top.epoch, page.top.offset
    held = {it.offset: it for it in repair.held if it.epoch == epoch}
    known = held | {it.offset: it for it in page.publications}
    same = epoch == position.epoch and position.offset <= top
    start = position.offset
    if not same:
        start = min((it.offset for it in others if it.epoch == epoch and it.offset <= top), default=top)
    elif start < top and start + 1 not in known:
        start = min((it for it in known if start < it <= top), default=top + 1) - 1
    publications: list[Publication] = []
    end = start
    while (following := known.get(end + 1)) is not None:
        publications.append(following)
        end += 1
    beyond = [it for it in repair.held[repair.known :] if it.epoch != epoch or it.offset > end]
    return Mending(
        start=Position(start, epoch),
        lost=not same or start != position.offset,
        publications=publications,
        fetched=sum(it.offset not in held for it in publications),
        beyond=beyond,
        whole=end >= top and not beyond,
    )
