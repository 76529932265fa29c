"""Wakes who waits for a moment, to some hundredths of a millisecond; the timers of the loop know whole ones only."""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import os
import sys
from contextlib import suppress
from itertools import count
from typing import Final

from loadtests.workers.meters import now

_CLOCK_MONOTONIC: Final = 1
_NONBLOCK_CLOEXEC: Final = 0o2004000
_ABSOLUTE: Final = 1


class _Moments(ctypes.Structure):
    """`struct itimerspec`: the interval, then the moment, in seconds and nanoseconds each."""

    _fields_ = (("_", ctypes.c_long * 2), ("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Alarm:
    """For one running loop. Without timerfd, on other systems than Linux, it wakes to the millisecond."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._ids = count()
        self._libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
        self._fd = -1 if self._libc is None else int(self._libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC))
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._fired)

    async def until(self, moment: int) -> None:
        """Sleep until then (µs of CLOCK_MONOTONIC), or until `ring`."""
        if self._fd < 0:
            await asyncio.sleep(max(0, moment - now()) / 1e6)
            return
        woken = self._loop.create_future()
        heapq.heappush(self._sleepers, (moment, next(self._ids), woken))
        if self._sleepers[0][2] is woken:
            self._set(moment)
        await woken

    def ring(self) -> None:
        """Wake everybody now."""
        while self._sleepers:
            self._wake()

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        self.ring()

    # --- inside

    def _fired(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._fd, 8)
        moment = now()
        while self._sleepers and self._sleepers[0][0] <= moment:
            self._wake()
        if self._sleepers:
            self._set(self._sleepers[0][0])

    def _wake(self) -> None:
        *_, woken = heapq.heappop(self._sleepers)
        if not woken.done():  # it may have been cancelled
            woken.set_result(None)

    def _set(self, moment: int) -> None:
        assert self._libc is not None
        seconds, rest = divmod(max(moment, 1), 1_000_000)
        moments = _Moments(seconds=seconds, nanoseconds=rest * 1000)
        self._libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(moments), None)
