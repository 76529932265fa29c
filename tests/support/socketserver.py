"""A process that `gateway.server.run` serves: `python -m tests.support.socketserver MODE`.

It prints `ready PORT INTERNAL_PORT` when its ports answer, `draining` when its drain begins, and `ended` when its
lifespan has ended. MODE says what the drain does: `closes` everybody with 3001, `waits` before it does, `raises`, or
`none` for no drain at all. Or there is none, and MODE says how the lifespan ends: it `lingers` for two seconds, it
`hangs`, or it `clings` to its life though it is cancelled.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, Literal

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gateway.contracts.transport import Transport
from gateway.disconnects import Disconnect
from gateway.draining import Drain, DrainRules
from gateway.listening import listen
from gateway.server import Listener, ServerRules, run
from tests.support.recorder import MemoryRecorder
from tests.support.socketapp import Attached, EchoReceiver, Rooms


class Told(Drain):
    """A drain that says when it begins."""

    def begin(self) -> None:
        """Begin, and say so."""
        super().begin()
        print("draining", flush=True)  # noqa: T201 - for the test


class Guest(EchoReceiver):
    """Somebody to be moved away."""

    unanswered = False

    def __init__(self, transport: Transport, crowd: dict[int, Guest], *, stubborn: bool) -> None:
        super().__init__(transport)
        self.gone = False
        self._crowd = crowd
        self._stubborn = stubborn
        crowd[id(self)] = self

    def read_no_more(self) -> None:
        """Ask for nothing more: nothing was asked."""

    def close(self, disconnect: Disconnect) -> None:
        """Go, or fail to."""
        if self._stubborn:
            raise LookupError("on purpose")
        self.gone = True
        self.transport.close(disconnect, 20.0)

    def lost(self, code: int | None, initiator: Literal["client", "server", "network"]) -> None:
        """Be gone."""
        super().lost(code, initiator)
        del self._crowd[id(self)]


async def linger() -> None:
    """Take some time."""
    await asyncio.sleep(2.0)


async def hang() -> None:
    """Never return."""
    await asyncio.Event().wait()


async def cling() -> None:
    """Never return, and obey nobody."""
    while True:
        with suppress(asyncio.CancelledError):
            await hang()


ENDS: Final[dict[str, Callable[[], Awaitable[None]]]] = {"lingers": linger, "hangs": hang, "clings": cling}


def main(mode: str) -> int:
    """Serve until a signal comes."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    crowd: dict[int, Guest] = {}
    attached = Attached(lambda transport: Guest(transport, crowd, stubborn=mode == "raises"))
    public, internal = listen("127.0.0.1", 0), listen("127.0.0.1", 0)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        print("ready", public.getsockname()[1], internal.getsockname()[1], flush=True)  # noqa: T201 - for the test
        yield
        if mode in ENDS:
            await ENDS[mode]()
        print("ended", flush=True)  # noqa: T201 - for the test

    async def stuck(_request: Request) -> Response:
        await asyncio.sleep(3600)
        return PlainTextResponse("never")

    async def clinging(_request: Request) -> Response:
        await cling()
        return PlainTextResponse("never")

    app = Rooms(attached).app
    app.router.lifespan_context = lifespan
    app.router.routes += [Route("/stuck", stuck), Route("/clings", clinging)]
    drain = None if mode in {"none", *ENDS} else Told(crowd, rules=DrainRules(delay=3600.0 if mode == "waits" else 0.0))
    rules = ServerRules(recorder=MemoryRecorder(), drain=drain, grace=60.0 if mode == "waits" else 5.0)
    return run([Listener(app, public), Listener(Rooms(attached).app, internal, websockets=False)], rules=rules)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
