"""A gateway whose wall clock leaps: SIGUSR1 sets it an hour ahead, SIGUSR2 an hour back; monotonic time goes on.

A program: `python -P leaping.py serve ...`, with the commands of the gateway.
"""

from __future__ import annotations

import signal
import sys
import time
from types import FrameType

HOUR = 3600.0


class Clock:
    """The time of the machine, and how far this process is off."""

    def __init__(self) -> None:
        self._of_the_machine = time.time
        self._offset = 0.0

    def time(self) -> float:
        """Return the wall clock as it stands here."""
        return self._of_the_machine() + self._offset

    def leap(self, number: int, _frame: FrameType | None) -> None:
        """Be off by an hour more, and say so."""
        self._offset += HOUR if number == signal.SIGUSR1 else -HOUR
        sys.stdout.write(f"the clock is off by {self._offset / HOUR:g} h\n")
        sys.stdout.flush()


def main() -> None:
    """Run the gateway by this clock."""
    clock = Clock()
    time.time = clock.time
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, clock.leap)
    from gateway import cli  # noqa: PLC0415 - modules that take `time.time` at import must find ours

    cli.main()


if __name__ == "__main__":
    main()
