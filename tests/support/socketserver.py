"""A process that `gateway.server.run` serves: `python -m tests.support.socketserver MODE`.

It prints `ready PORT INTERNAL_PORT` when its ports answer, and `ended` when its lifespan has ended. MODE says what
the drain does: `closes` everybody with 3001, `hangs`, `raises`, or `none` for no drain at all.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gateway.disconnects import SHUTDOWN
from gateway.server import Listener, ServerRules, listen, run
from tests.support.recorder import MemoryRecorder
from tests.support.socketapp import Attached, EchoReceiver, Rooms


def main(mode: str) -> int:
    """Serve until a signal comes."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    attached = Attached(EchoReceiver)
    public, internal = listen("127.0.0.1", 0), listen("127.0.0.1", 0)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        print("ready", public.getsockname()[1], internal.getsockname()[1], flush=True)  # noqa: T201 - for the test
        yield
        print("ended", flush=True)  # noqa: T201 - for the test

    async def drain() -> None:
        print("draining", flush=True)  # noqa: T201 - for the test
        if mode == "hangs":
            await asyncio.Event().wait()
        if mode == "raises":
            raise LookupError("on purpose")
        for receiver in attached.all:
            receiver.transport.close(SHUTDOWN, 2.0)

    async def stuck(_request: Request) -> Response:
        await asyncio.sleep(3600)
        return PlainTextResponse("never")

    app = Rooms(attached).app
    app.router.lifespan_context = lifespan
    app.router.routes.append(Route("/stuck", stuck))
    rules = ServerRules(recorder=MemoryRecorder(), on_drain=None if mode == "none" else drain)
    return run([Listener(app, public), Listener(Rooms(attached).app, internal, websockets=False)], rules=rules)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
