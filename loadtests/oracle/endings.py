"""How each numbered publication of a channel ended; what was acknowledged costs nothing to remember."""

from __future__ import annotations

from typing import Final

from loadtests.oracle.dumps import PageDump
from loadtests.oracle.offences import Ending

SPEAKER: Final = 32  # bits of a number below that of its speaker: each numbers his own from 1 on


def speaker_of(number: int) -> int:
    """Return who gave this number; 0 where a channel has one publisher who names nobody."""
    return number >> SPEAKER


class Endings:
    """By number; each speaker's are taken to be used one after the other, beginning with 1."""

    __slots__ = ("acknowledged", "measured", "newest", "newest_acknowledged", "others")

    def __init__(self) -> None:
        self.acknowledged = 0
        self.newest: dict[int, int] = {}  # by speaker
        self.newest_acknowledged: dict[int, int] = {}  # likewise
        self.others: dict[int, Ending] = {}  # all that ended otherwise, or not yet
        self.measured: dict[int, tuple[int, int]] = {}  # by speaker, the first and the last due while measuring

    def get(self, number: int) -> Ending | None:
        """Return how this one ended; None if it was never published."""
        if (other := self.others.get(number)) is not None:
            return other
        speaker = number >> SPEAKER
        return "acknowledged" if speaker << SPEAKER < number <= self.newest.get(speaker, 0) else None

    def set(self, number: int, ending: Ending) -> None:
        """Note how this one ended, once more if that is known better now."""
        speaker = number >> SPEAKER
        known = number <= self.newest.get(speaker, 0)
        if not known:
            self.newest[speaker] = number
        if ending != "acknowledged":
            if known and number not in self.others:
                self.acknowledged -= 1
            self.others[number] = ending
        elif self.others.pop(number, None) is not None or not known:
            self.acknowledged += 1
            if number > self.newest_acknowledged.get(speaker, 0):
                self.newest_acknowledged[speaker] = number

    def measure(self, number: int) -> None:
        """Note that this one was due while measuring; between two that were, all were."""
        speaker = number >> SPEAKER
        self.measured[speaker] = self.measured.get(speaker, (number, number))[0], number

    def is_measured(self, number: int) -> bool:
        """Whether this one was due while measuring."""
        first, last = self.measured.get(number >> SPEAKER, (1, 0))
        return first <= number <= last

    def count(self, ending: Ending) -> int:
        """Count what ended so."""
        return self.acknowledged if ending == "acknowledged" else sum(it == ending for it in self.others.values())

    def acknowledged_in(self, first: int, last: int) -> int:
        """Count what was acknowledged of one speaker's numbers from `first` to `last`."""
        last = min(last, self.newest.get(first >> SPEAKER, 0))
        return max(0, last - first + 1 - sum(first <= it <= last for it in self.others)) if last >= first else 0

    def measured_in(self, first: int, last: int) -> int:
        """Count what was due while measuring of one speaker's numbers; what was refused had its answer, and is none."""
        begin, end = self.measured.get(first >> SPEAKER, (1, 0))
        first, last = max(first, begin), min(last, end)
        refused = sum(first <= it <= last for it, ending in self.others.items() if ending == "refused")
        return max(0, last - first + 1 - refused)

    def unanswered(self) -> list[int]:
        """Return the numbers that were due while measuring and that nobody answered."""
        return [it for it, ending in self.others.items() if ending != "refused" and self.is_measured(it)]

    def absorb(self, other: PageDump) -> None:
        """Add what another process published, by speakers of its own."""
        self.acknowledged += other.acknowledged
        self.newest.update(other.newest)
        self.newest_acknowledged.update(other.newest_acknowledged)
        self.others.update(other.others)
        self.measured.update(other.measured)
