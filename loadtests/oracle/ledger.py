"""What was published, how each attempt ended, and which number was seen at each place of a stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gateway.types import Position
from loadtests.oracle.dumps import PageDump
from loadtests.oracle.endings import Endings
from loadtests.oracle.offences import ANY, Ending, Offence


@dataclass(slots=True)
class Page:
    """All that is known of one channel: how each number ended, and which number was seen at each place."""

    endings: Endings = field(default_factory=Endings)
    acknowledged: list[tuple[int, Position]] = field(default_factory=list)  # those with a place, as the answers came
    seen: dict[tuple[str, int], int] = field(default_factory=dict)
    places: dict[tuple[int, str], tuple[str, int]] = field(default_factory=dict)  # by number, and epoch or `ANY`
    offences: list[Offence] = field(default_factory=list)

    def dump(self) -> PageDump:
        """Return all of it; places follow from what was seen."""
        ends = self.endings
        seen = [(epoch, offset, number) for (epoch, offset), number in self.seen.items()]
        return PageDump(
            acknowledged=ends.acknowledged,
            newest=ends.newest,
            newest_acknowledged=ends.newest_acknowledged,
            others=ends.others,
            placed=self.acknowledged,
            seen=seen,
            offences=self.offences,
            measured=ends.measured,
        )


class Ledger:
    """What was published, and how each attempt ended; shared by the publishers and all logs of a run.

    `keys_lost`: the server forgets idempotency keys now and then, together with its streams. Then a publisher that
    repeats itself may be taken twice, in two epochs.
    """

    def __init__(self) -> None:
        self.keys_lost = False
        self._pages: dict[str, Page] = {}

    def publishing(self, channel: str, number: int, *, measured: bool = False) -> None:
        """This number is about to be sent; until it ends otherwise nobody knows what came of it.

        `measured`: it was due while measuring, so that its latency counts, also if it never arrives.
        """
        endings = self.page(channel).endings
        endings.set(number, "doubtful")
        if measured:
            endings.measure(number)

    def unsent(self, channel: str, number: int, *, measured: bool = False) -> None:
        """It was due, and could not be sent, since the speaker had lost its connection."""
        self.publishing(channel, number, measured=measured)
        self.page(channel).endings.set(number, "unsent")

    def acknowledged(self, channel: str, number: int, position: Position | None = None) -> None:
        """It was taken; at this position, if the answer said so."""
        page = self.page(channel)
        page.endings.set(number, "acknowledged")
        if position is not None and position.offset:
            page.acknowledged.append((number, position))
            self.saw(channel, position, number, "its publisher")

    def refused(self, channel: str, number: int) -> None:
        """It was certainly not taken: whoever sees it sees a ghost."""
        self.page(channel).endings.set(number, "refused")

    def doubtful(self, channel: str, number: int) -> None:
        """No answer, or one that leaves it open: it may be delivered or not."""
        self.page(channel).endings.set(number, "doubtful")

    def page(self, channel: str) -> Page:
        """Return what is known of a channel."""
        page = self._pages.get(channel)
        if page is None:
            page = self._pages[channel] = Page()
        return page

    @property
    def channels(self) -> Iterable[str]:
        """Every channel that somebody published to or listened to."""
        return self._pages

    def count(self, ending: Ending) -> int:
        """Count what ended so."""
        return sum(page.endings.count(ending) for page in self._pages.values())

    def dump(self) -> dict[str, PageDump]:
        """Return all of it, by channel, for `absorb` in another process."""
        return {channel: page.dump() for channel, page in self._pages.items()}

    def absorb(self, pages: Mapping[str, PageDump]) -> None:
        """Add what another process published and saw: what the two contradict each other in is an offence."""
        for channel, dump in pages.items():
            page = self.page(channel)
            page.endings.absorb(dump)
            page.acknowledged += dump.placed
            page.offences += dump.offences
            for epoch, offset, number in dump.seen:
                self.saw(channel, Position(offset, epoch), number, "another process")

    def saw(self, channel: str, position: Position, number: int, who: str) -> None:
        """Somebody saw this number at this place: everybody else must, and nowhere else."""
        page = self.page(channel)
        place = (position.epoch, position.offset)
        epoch = position.epoch if self.keys_lost else ANY
        if page.seen.setdefault(place, number) != number:
            detail = f"{who} saw number {number}, others {page.seen[place]}"
            self._blame(page, Offence("two histories", channel, "", *place, 0, detail))
        elif (known := page.places.setdefault((number, epoch), place)) != place:
            detail = f"holds number {number}, which stands at {known} too"
            self._blame(page, Offence("duplicate", channel, "", *place, 0, detail))

    @staticmethod
    def _blame(page: Page, offence: Offence) -> None:
        # A hundred subscribers see one bad place: it is one offence.
        if all((it.kind, it.epoch, it.first) != (offence.kind, offence.epoch, offence.first) for it in page.offences):
            page.offences.append(offence)
