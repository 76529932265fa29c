"""What one client heard in a channel without history: what came, by speaker, and what is missing between."""

from __future__ import annotations

from collections.abc import Mapping

from loadtests.oracle.endings import SPEAKER, speaker_of
from loadtests.oracle.offences import Hole


class Hearing:
    """Numbers in the order they came. Nothing is missing that was said while nobody listened.

    `said`: the newest number of each speaker of this process, as the ledger has it at any moment. Where it stood when
    a subscription began is where that one has to be whole from: also one on which nothing ever comes. Of speakers
    elsewhere a process knows nothing; of those a subscription has to be whole from the first that it hears.
    """

    __slots__ = ("_said", "absences", "attentive", "before", "holes", "newest", "since")

    def __init__(self, said: Mapping[int, int]) -> None:
        self.newest: dict[int, int] = {}  # by speaker, since the last subscription
        self.before: dict[int, int] = {}  # by speaker, from earlier ones
        self.since: dict[int, int] | None = None  # by speaker, what was said when the last subscription began
        self.holes: list[Hole] = []
        self.absences: list[Hole] = []  # said while it was away against its will: no loss, but none of it arrived
        self.attentive = False  # it has listened since before anything was said
        self._said = said

    @property
    def skipped(self) -> int:
        """How many numbers were passed over."""
        return sum(it.last - it.first + 1 for it in self.holes)

    def resume(self, *, willing: bool = False) -> None:
        """Listen anew: what was said meanwhile is not missing. `willing`: nobody else was to blame for the absence."""
        if not willing:
            self.absences += self.tail(self._said)
        self.before.update(self.newest)
        self.newest.clear()
        self.since = dict(self._said)
        self.attentive = False

    def hear(self, number: int) -> int:
        """Take a publication; returns 0, or the later one of the same speaker that came before it."""
        speaker = number >> SPEAKER
        newest = self.newest.get(speaker)
        if self.absences:
            _fill(self.absences, number)
        if newest is None:
            return self._begin(speaker, number)
        if number <= newest:
            _fill(self.holes, number)
            return newest
        if number > newest + 1:
            self.holes.append(Hole(newest + 1, number - 1))
        self.newest[speaker] = number
        return 0

    def tail(self, last: Mapping[int, int]) -> list[Hole]:
        """Return what is missing behind the newest, where each speaker's `last` is known."""
        heard = ((self.newest.get(speaker, self._floor(speaker)), number) for speaker, number in last.items())
        return [Hole(newest + 1, number) for newest, number in heard if newest is not None and newest < number]

    def floors(self) -> dict[int, int]:
        """Return `since` for a judge who does not know who spoke here: with those who began later."""
        since = self.since or {}
        return {it: since.get(it, it << SPEAKER) for it in {**since, **self._said}}

    # --- inside

    def _floor(self, speaker: int) -> int | None:
        """Return after which number of a speaker all were to be heard; None: nobody knows."""
        if self.attentive or self.since is None:
            return speaker << SPEAKER if self.attentive else None
        return self.since.get(speaker, speaker << SPEAKER if speaker in self._said else None)

    def _begin(self, speaker: int, number: int) -> int:
        if number <= (known := self.before.get(speaker, 0)):
            _fill(self.holes, number)
            return known
        floor = self._floor(speaker)
        if floor is not None and number > floor + 1:
            self.holes.append(Hole(floor + 1, number - 1))
        self.newest[speaker] = number
        return 0


def said(hole: Hole) -> str:
    """Return whose numbers these are, for a reader."""
    return f"as speaker {speaker_of(hole.first)} counts: the channel has no history"


def _fill(holes: list[Hole], number: int) -> None:
    for place, hole in enumerate(holes):
        if hole.first <= number <= hole.last:
            parts = (Hole(hole.first, number - 1), Hole(number + 1, hole.last))
            holes[place : place + 1] = [it for it in parts if it.first <= it.last]
            return
