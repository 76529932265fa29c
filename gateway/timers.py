"""One timer wheel for the whole node: 256 slots of 100 ms, so that an idle connection owns no timer handle."""

from __future__ import annotations

from math import ceil, inf
from typing import Final, Protocol

TICK: Final = 0.1  # seconds; pings and deadlines need no better
SLOTS: Final = 256


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
            if self._current < entry.timer_tick <= tick:
                return
            self.forget(entry)
        entry.timer_tick = tick
        self._slots[tick % SLOTS].add(entry)

    def forget(self, entry: Timed) -> None:
        """Look at it no more, and keep no reference to it."""
        self._slots[entry.timer_tick % SLOTS].discard(entry)
        entry.timer_tick = 0

    def advance(self, now: float) -> None:
        """Look at everything whose time has come. A `due` that raises loses its own entry only; re-raised last."""
        target = int((now - self._start) / TICK)
        first_error: Exception | None = None
        for tick in range(self._current + 1, target + 1)[-SLOTS:]:
            self._current = tick
            entries, self._slots[tick % SLOTS] = self._slots[tick % SLOTS], set()
            for entry in entries:
                try:
                    self._look(entry, tick, now)
                except Exception as error:  # noqa: BLE001 - one broken entry must not cost the others their deadlines
                    first_error = first_error or error
        self._current = max(self._current, target)
        if first_error is not None:
            raise first_error

    def _look(self, entry: Timed, tick: int, now: float) -> None:
        if entry.timer_tick > tick or not entry.timer_tick:
            return  # what was looked at before it in this tick has booked it anew, or had it forgotten
        entry.timer_tick = 0
        self.schedule(entry.due(now), entry)
