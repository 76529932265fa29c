"""Runs the app under uvicorn on a socket of our own, and ends with exit code 0 on SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import errno
import gc
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import structlog
import uvicorn
import uvloop

from auth_service.errors import OperatorError

if TYPE_CHECKING:  # the command line listens first, and pays for this import then
    from fastapi import FastAPI

BACKLOG = 512
GRACE_SECONDS = 5
# Database sessions are cycles: collected by tens of thousands, they would hold the loop up for 40 ms.
GC_THRESHOLDS: Final = (2_000, 5, 100)

log = structlog.get_logger(__name__)


def listen(host: str, port: int) -> socket.socket:
    """Bind and listen; port 0 takes a free one. Raises OperatorError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(address)
            listening.listen(BACKLOG)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise OperatorError(f"port {port} on {host} is taken: stop what listens there or choose --port") from None
        raise OperatorError(f"cannot listen on {host} port {port}: {error.strerror}") from None
    return listening


def run(app: FastAPI, listening: socket.socket, trusted_proxies: Sequence[str] = ()) -> None:
    """Serve until a signal. Raises OperatorError if the app cannot start."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(app, make(app, trusted_proxies), listening, started=settle_memory))


def settle_memory() -> None:
    """Keep what was loaded at start out of every later collection, which would hold the loop up for 100 ms."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def make(app: FastAPI, trusted_proxies: Sequence[str] = ()) -> uvicorn.Server:
    """Return a server for the app; setting its `should_exit` ends it.

    Only what comes from the trusted networks may say by X-Forwarded-For and -Proto from where it is forwarded.
    """
    config = uvicorn.Config(
        app,
        lifespan="off",  # entered by us, so that what it raises is ours to tell
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=list(trusted_proxies),
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    return _Server(config)


async def serve(
    app: FastAPI, server: uvicorn.Server, listening: socket.socket, *, started: Callable[[], None] = lambda: None
) -> None:
    """Serve on a socket that listens, and close it; `started` is called before the first request.

    Raises OperatorError if the app cannot start.
    """
    with listening:
        async with app.router.lifespan_context(app):
            started()
            await server.serve(sockets=[listening])


class _Server(uvicorn.Server):
    """Says when it listens, and does not raise a signal again that it has obeyed."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        for listening in sockets or ():
            host, port = listening.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            log.info("auth.listening", url=f"http://{shown}:{port}")

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
