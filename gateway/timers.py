"""One timer wheel for the whole node: 256 slots of 100 ms, so that an idle connection owns no timer handle."""

from __future__ import annotations

from math import ceil, inf
from typing import Final, Protocol

TICK: Final = 0.1  # seconds; pings and deadlines need no better
SLOTS: Final = 256

SLICE: Final = 0.002  # seconds of a turn for looking at many; all other work goes on between
CHUNK: Final = 16  # looks between two looks at the clock
_ALL: Final = 1 << 32


class Timed(Protocol):
    """Something that wants to be looked at, at a time it may change; hashed by identity."""

    timer_tick: int  # the tick of its entry, 0 = none; kept by the wheel

    def due(self, now: float) -> float:
        """Do what is due at `now`; return when to look again, `inf` = never."""


class TimerWheel:
    """Looks at each entry when its time has come, never early by more than the wheel's 25 s horizon demands.

    An entry may be looked at before its time (a far deadline, or one that was moved); `due` then just says again
    when. `advance` is to be called every TICK.
    """

    def __init__(self, now: float) -> None:
        self._start = now
        self._current = 0
        self._slots: list[set[Timed]] = [set() for _ in range(SLOTS)]

    def __len__(self) -> int:
        """Count the entries."""
        return sum(map(len, self._slots))

    def schedule(self, at: float, entry: Timed) -> None:
        """Look at `entry` at monotonic time `at`, or earlier if it is to be looked at earlier anyway."""
        if at == inf:
            return
        tick = min(max(ceil((at - self._start) / TICK), self._current + 1), self._current + SLOTS - 1)
        if entry.timer_tick:
            if entry.timer_tick <= tick:
                return
            self.forget(entry)
        entry.timer_tick = tick
        self._slots[tick % SLOTS].add(entry)

    def forget(self, entry: Timed) -> None:
        """Look at it no more, and keep no reference to it."""
        self._slots[entry.timer_tick % SLOTS].discard(entry)
        entry.timer_tick = 0

    def advance(self, now: float, most: int = _ALL) -> bool:
        """Look at what is due, at no more than `most` entries; True: the others wait for a call before the next TICK.

        A `due` that raises loses its own entry only; re-raised last, when there may be more.
        """
        target = int((now - self._start) / TICK)
        first_error: Exception | None = None
        while True:
            slot = self._slots[self._current % SLOTS]  # nothing is booked into it before the next tick
            while slot and most > 0:
                most -= 1
                entry = slot.pop()
                entry.timer_tick = 0
                try:
                    self.schedule(entry.due(now), entry)
                except Exception as error:  # noqa: BLE001 - one broken entry must not cost the others their deadlines
                    first_error = first_error or error
            if slot or self._current >= target:
                break
            self._slots[self._current % SLOTS] = set()  # a set that was emptied keeps its size
            self._current = max(self._current + 1, target - SLOTS + 1)
        if first_error is not None:
            raise first_error
        return bool(slot)
