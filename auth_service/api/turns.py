"""Lets requests that come all at once begin a few at a time, so that the loop gets round to everything else."""

from __future__ import annotations

import asyncio
from collections import deque

from starlette.types import ASGIApp, Receive, Scope, Send

AT_ONCE = 8  # requests in one turn of the loop; up to its first wait each takes some 0.3 ms


class Turns:
    """In each turn of the loop `at_once` requests begin, in the order in which they came; none is refused."""

    def __init__(self, app: ASGIApp, *, at_once: int = AT_ONCE) -> None:
        self._app = app
        self._at_once = at_once
        self._begun = 0  # in this turn
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on in its turn."""
        if scope["type"] == "http":
            await self._turn()
        await self._app(scope, receive, send)

    async def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        if self._begun < self._at_once and not self._waiting:
            if not self._begun:
                loop.call_soon(self._next)
            self._begun += 1
            return
        place = loop.create_future()
        self._waiting.append(place)
        await place

    def _next(self) -> None:
        called = 0
        while self._waiting and called < self._at_once:
            place = self._waiting.popleft()
            if not place.done():  # whoever was to have it is still there
                place.set_result(None)
                called += 1
        # who is called begins in the turn to come: nobody begins before them in what is left of this one
        self._begun = self._at_once if called else 0
        if called:
            asyncio.get_running_loop().call_soon(self._next)
