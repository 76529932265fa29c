"""Runs the application on uvicorn: own signals, drain before close, tuned listening sockets, exit code 0."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal, NoReturn, Protocol, cast

import structlog
import uvicorn
import uvloop
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from gateway.contracts.recorder import Recorder
from gateway.draining import Drain
from gateway.lifespan import Lifespan, NoLifespan
from gateway.listening import BACKLOG, STEP_ASIDE, listen, step_aside
from gateway.stopping import Stop, give_way, unless, where
from gateway.transports.admission import Admission, TrustedProxies
from gateway.transports.handshake import websocket_protocol
from gateway.transports.http import HttpLimits, http_protocol
from gateway.transports.wire import WebSocketLimits

GC_THRESHOLDS: Final = (50_000, 20, 50)  # connections and publications are freed by counting; cycles are rare

POLL: Final = 0.02  # seconds between two looks at what is still there, while closing
LAST_CALL: Final = 0.1  # seconds: who was in the backlog by then gets a 503, and not a reset when the port closes
LEFT_BEHIND: Final = 70  # the exit status when something could not be ended; sysexits.h calls it an internal error

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Listener:
    """One port. The lifespan of the first listener's application is that of the process."""

    app: ASGIApp
    socket: socket.socket
    websockets: bool = True  # False: upgrades are answered as plain requests
    shared: bool = False  # other processes listen on the port, too: they get the newcomers of a drain


@dataclass(slots=True, kw_only=True)
class ServerRules:
    """What the server enforces by itself, and what empties it before it closes anything."""

    recorder: Recorder
    admission: Admission = field(default_factory=Admission)
    proxies: TrustedProxies = field(default_factory=TrustedProxies)
    http: HttpLimits = field(default_factory=HttpLimits)
    websocket: WebSocketLimits = field(default_factory=WebSocketLimits)
    drain: Drain | None = None  # None: whoever is there sees 1012
    grace: float = 5.0  # seconds for requests in flight when everything closes; then they are cancelled


class Abortable(Protocol):
    """What every protocol class of ours is, beyond what uvicorn asks."""

    def abort(self) -> None:
        """Drop the link at once."""


def run(
    listeners: Sequence[Listener],
    *,
    rules: ServerRules,
    loop: Literal["uvloop", "asyncio"] = "uvloop",
    started: Callable[[], object] = lambda: None,
) -> int:
    """Serve until SIGTERM or SIGINT, drain, close, and return the exit code. `started` is called when all ports answer.

    A second signal hurries the drain: everybody is closed at once. A third leaves behind whoever has not gone.
    Raises OperatorError when the application cannot start. What goes on though it was cancelled ends with the process,
    by LEFT_BEHIND.
    """
    raise_file_limit()
    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_serve_until_signalled(listeners, rules, started))
    return 0


async def _serve_until_signalled(
    listeners: Sequence[Listener], rules: ServerRules, started: Callable[[], object]
) -> None:
    stop = Stop()

    def settled() -> None:
        settle_memory()
        started()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.ask)
    try:
        await serve_until_stopped(listeners, rules=rules, stop=stop, started=settled)
    finally:
        if left := await give_way(*(asyncio.all_tasks() - {asyncio.current_task()})):
            _leave_behind(left)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _leave_behind(tasks: Iterable[asyncio.Task[object]]) -> NoReturn:
    """End the process at once: the loop could be closed only when all its tasks have ended."""
    held = [{"name": task.get_name(), "at": where(task)} for task in tasks]
    try:
        log.error("server.left_behind", tasks=held, exc_info=sys.exception())
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(LEFT_BEHIND)


def raise_file_limit() -> None:
    """Let this process open as many files as the system allows it: a connection is a file."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def settle_memory() -> None:
    """Keep what was loaded at start out of every later collection, and collect seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


async def serve_until_stopped(
    listeners: Sequence[Listener],
    *,
    rules: ServerRules,
    stop: Stop,
    started: Callable[[], object] = lambda: None,
) -> None:
    """Serve in the running loop; `started` is called when all ports answer. Closes the sockets, also on failure.

    Raises what the application's start raised. Cancelling skips the drain and the goodbyes.
    """
    with contextlib.ExitStack() as sockets:
        for listener in listeners:
            sockets.callback(listener.socket.close)
        servers = await unless(stop.asked, _start_all(listeners, rules))
        if servers is None:
            return
        async with asyncio.TaskGroup() as group:
            loops = [group.create_task(server.main_loop()) for server in servers]
            started()
            await stop.asked.wait()
            await _drain(rules, stop)
            for loop in loops:
                loop.cancel()  # they only refresh the Date header
            for server in reversed(servers):
                await _shut(server, stop, rules.grace)


@contextlib.asynccontextmanager
async def running(app: ASGIApp, *, rules: ServerRules, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """Serve `app` on a free port within this loop and give its base URL; drains and closes on the way out."""
    stop, started = Stop(), asyncio.Event()
    sock = listen(host, 0)
    port = sock.getsockname()[1]
    serving = asyncio.create_task(
        serve_until_stopped([Listener(app, sock)], rules=rules, stop=stop, started=started.set)
    )
    serving.add_done_callback(lambda _: started.set())
    try:
        await started.wait()
        if not serving.done():
            yield f"http://{host}:{port}"
    finally:
        stop.ask()
        await serving


async def _start_all(listeners: Sequence[Listener], rules: ServerRules) -> list[uvicorn.Server]:
    servers: list[uvicorn.Server] = []
    if rules.drain is not None:
        rules.drain.refuse = partial(_refuse, rules, listeners, servers)
    for listener in listeners:
        server = uvicorn.Server(_config(listener, rules))
        server.config.load()
        lifespan = NoLifespan if servers else Lifespan
        server.lifespan = lifespan(listener.app)
        try:
            await server.startup(sockets=[listener.socket])
        except BaseException:
            for other in reversed(servers):
                await _shut(other, Stop(), 0.0)
            raise
        servers.append(server)
    return servers


def _config(listener: Listener, rules: ServerRules) -> uvicorn.Config:
    ws = websocket_protocol(rules.websocket, admission=rules.admission, recorder=rules.recorder)
    return uvicorn.Config(
        listener.app,
        http=http_protocol(
            rules.http,
            admission=rules.admission,
            proxies=rules.proxies,
            recorder=rules.recorder,
            guarded=listener.websockets,
        ),
        ws=ws if listener.websockets else "none",
        interface="asgi3",
        log_config=None,
        access_log=False,  # it would write query strings, and tokens stand there
        proxy_headers=False,  # http_protocol believes the proxies, before admission
        server_header=False,
        backlog=BACKLOG,
    )


async def _refuse(rules: ServerRules, listeners: Sequence[Listener], servers: Sequence[uvicorn.Server]) -> None:
    """Turn newcomers away, then close the ports they come by; the internal one and open connections stay.

    Of a shared port the other processes take them; who had begun to connect here is still let in.
    """
    left = [step_aside(it.socket) for it in listeners if it.shared]
    if any(left):
        await asyncio.sleep(STEP_ASIDE)
    rules.admission.draining = True
    await asyncio.sleep(LAST_CALL)
    for listener, server in zip(listeners, servers, strict=False):  # a call may come before the last one has begun
        if listener.websockets:
            _close_port(server)


async def _drain(rules: ServerRules, stop: Stop) -> None:
    """Empty the node, unless that has been done; a third signal leaves the drain behind."""
    drain = rules.drain
    if drain is None:
        rules.admission.draining = True
        return
    drain.begin()
    await unless(stop.hurried, drain.ended())
    if stop.hurried.is_set():
        drain.hurry()
        await unless(stop.forced, drain.ended())
    rules.admission.drained = drain.over


async def _shut(server: uvicorn.Server, stop: Stop, grace: float) -> None:
    """Close the port, say goodbye to whoever is still there, wait for requests in flight, end the lifespan.

    Not uvicorn's own, which leaves behind what is not gone after the grace: uvloop cannot be closed over an open
    connection.
    """
    state = server.server_state
    _close_port(server)
    for connection in list(state.connections):
        connection.shutdown()
    await unless(stop.forced, _emptied(state, grace))
    for task in state.tasks:
        task.cancel()
    for connection in list(state.connections):
        cast("Abortable", connection).abort()
    await _emptied(state, 1.0)
    await unless(stop.forced, server.lifespan.shutdown())


async def _emptied(state: ServerState, seconds: float) -> None:
    """Wait until all connections are gone and all routes have returned, no longer than that."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while state.connections or state.tasks:  # noqa: ASYNC110 - uvicorn's sets tell nobody
                await asyncio.sleep(POLL)


def _close_port(server: uvicorn.Server) -> None:
    for listening in server.servers:
        listening.close()  # harmless if it is closed
