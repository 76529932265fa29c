"""Runs the application on uvicorn: own signals, drain before close, tuned listening sockets, exit code 0."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import resource
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, TypeVar, cast

import structlog
import uvicorn
import uvloop
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from gateway.contracts.recorder import Recorder
from gateway.errors import OperatorError
from gateway.lifespan import Lifespan, NoLifespan
from gateway.transports.admission import Admission, TrustedProxies
from gateway.transports.handshake import websocket_protocol
from gateway.transports.http import HttpLimits, http_protocol
from gateway.transports.wire import WebSocketLimits

BACKLOG: Final = 4096  # a herd that comes back after a restart is larger than the usual 128
SEND_BUFFER: Final = 65_536  # of the kernel, per socket: what a client that does not read may tie up there
USER_TIMEOUT_MS: Final = 10_000  # a peer that acknowledges nothing for so long is gone
GC_THRESHOLDS: Final = (50_000, 20, 50)  # connections and publications are freed by counting; cycles are rare

POLL: Final = 0.02  # seconds between two looks at what is still there, while closing

T = TypeVar("T")
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Listener:
    """One port. The lifespan of the first listener's application is that of the process."""

    app: ASGIApp
    socket: socket.socket
    websockets: bool = True  # False: upgrades are answered as plain requests


@dataclass(slots=True, kw_only=True)
class ServerRules:
    """What the server enforces by itself, and what it calls before it closes anything."""

    recorder: Recorder
    admission: Admission = field(default_factory=Admission)
    proxies: TrustedProxies = field(default_factory=TrustedProxies)
    http: HttpLimits = field(default_factory=HttpLimits)
    websocket: WebSocketLimits = field(default_factory=WebSocketLimits)
    on_drain: Callable[[], Awaitable[None]] | None = None
    grace: float = 5.0  # seconds for requests in flight when everything closes; then they are cancelled


def listen(host: str, port: int, *, reuse_port: bool = False, option: str = "--port") -> socket.socket:
    """Open a listening socket; `port` 0 = any. Raises OperatorError, naming `option` as the way out."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
    except socket.gaierror as error:
        raise OperatorError(f"cannot listen on {host}: {error.strerror}; give an address of this machine") from None
    sock = socket.socket(family, kind, protocol)
    try:
        _tune(sock, reuse_port=reuse_port)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise OperatorError(_advice(host, port, option, error)) from None
    sock.setblocking(False)
    return sock


def _tune(sock: socket.socket, *, reuse_port: bool) -> None:
    """Set what every accepted socket inherits. Raises OSError."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _advice(host: str, port: int, option: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is taken: stop what listens there, or choose another with {option}"
    if error.errno == errno.EACCES:
        return f"port {port} needs more rights than this process has: choose one from 1024 up with {option}"
    return f"cannot listen on {host} port {port}: {error.strerror}"


class Abortable(Protocol):
    """What every protocol class of ours is, beyond what uvicorn asks."""

    def abort(self) -> None:
        """Drop the link at once."""


class Stop:
    """What the operator asks for: first to stop, then to hurry, then to leave everything behind."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()
        self.forced = asyncio.Event()

    def ask(self) -> None:
        """Go one step further: a signal arrived."""
        for step in (self.asked, self.hurried, self.forced):
            if not step.is_set():
                log.info("server.stopping", hurry=step is not self.asked)
                step.set()
                return


def run(listeners: Sequence[Listener], *, rules: ServerRules, loop: Literal["uvloop", "asyncio"] = "uvloop") -> int:
    """Serve until SIGTERM or SIGINT, drain, close, and return the exit code.

    A second signal skips the drain, a third the requests in flight. Raises OperatorError when the application
    cannot start.
    """
    raise_file_limit()
    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_serve_until_signalled(listeners, rules))
    return 0


async def _serve_until_signalled(listeners: Sequence[Listener], rules: ServerRules) -> None:
    stop = Stop()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.ask)
    try:
        await serve_until_stopped(listeners, rules=rules, stop=stop, started=settle_memory)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


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
        servers = await _unless(stop.asked, _start_all(listeners, rules))
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
        http=http_protocol(rules.http, admission=rules.admission, proxies=rules.proxies, recorder=rules.recorder),
        ws=ws if listener.websockets else "none",
        interface="asgi3",
        log_config=None,
        access_log=False,  # it would write query strings, and tokens stand there
        proxy_headers=False,  # http_protocol believes the proxies, before admission
        server_header=False,
        backlog=BACKLOG,
    )


async def _drain(rules: ServerRules, stop: Stop) -> None:
    rules.admission.draining = True
    if rules.on_drain is None:
        return
    try:
        await _unless(stop.hurried, _settled(rules.on_drain()))
        rules.admission.drained = not stop.hurried.is_set()
    except Exception:
        log.exception("server.drain_failed")


async def _shut(server: uvicorn.Server, stop: Stop, grace: float) -> None:
    """Close the port, say goodbye to whoever is still there, wait for requests in flight, end the lifespan.

    Not uvicorn's own, which leaves behind what is not gone after the grace: uvloop cannot be closed over an open
    connection.
    """
    state = server.server_state
    for listening in server.servers:
        listening.close()
    for connection in list(state.connections):
        connection.shutdown()
    await _unless(stop.forced, _emptied(state, grace))
    for task in state.tasks:
        task.cancel()
    for connection in list(state.connections):
        cast("Abortable", connection).abort()
    await _emptied(state, 1.0)
    await _unless(stop.forced, server.lifespan.shutdown())


async def _emptied(state: ServerState, seconds: float) -> None:
    """Wait until all connections are gone and all routes have returned, no longer than that."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while state.connections or state.tasks:  # noqa: ASYNC110 - uvicorn's sets tell nobody
                await asyncio.sleep(POLL)


async def _settled(awaitable: Awaitable[None]) -> None:
    await awaitable


async def _unless(event: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Await `work`; None if `event` came first, and then the work is cancelled."""
    task = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        return None
    finally:
        waiting.cancel()
        task.cancel()
        await asyncio.gather(task, waiting, return_exceptions=True)
