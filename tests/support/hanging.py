"""What a test that never ends is made to say: where its tasks wait, then where its threads stand, then it is ended.

`faulthandler_timeout` of pyproject.toml ends the process, and so names the test. The stack of a thread that runs a loop
says only that the loop waits, so the loop itself tells beforehand what its tasks wait for.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TextIO

import uvloop

BEFOREHAND = 10.0
"""Seconds between the words of a loop and the end of its process."""


class Loops:
    """Makes the loops of tests, of the kind that runs in production: its transports differ from asyncio's.

    `limit` is the seconds that a test may take, 0 for any; the standard error is that of now, before it is captured.
    """

    def __init__(self, limit: float) -> None:
        self._after = limit - BEFOREHAND
        self._out = os.fdopen(os.dup(sys.__stderr__.fileno()), "w") if sys.__stderr__ else None

    def new(self) -> asyncio.AbstractEventLoop:
        """Return a loop that tells what its tasks wait for if it is there too long."""
        loop = uvloop.new_event_loop()
        if self._after > 0 and self._out:
            loop.call_later(self._after, tell, loop, self._out)
        return loop

    def close(self) -> None:
        """Give back the copy of the standard error."""
        if self._out:
            self._out.close()


def tell(loop: asyncio.AbstractEventLoop, out: TextIO) -> None:
    """Write where each task of the loop waits."""
    for task in asyncio.all_tasks(loop):
        task.print_stack(file=out)
    out.flush()
