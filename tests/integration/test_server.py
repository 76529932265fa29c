"""The server as a process: signals, drain, exit code, ports, and what it says when it cannot start."""

from __future__ import annotations

import asyncio
import re
import resource
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from gateway.errors import OperatorError
from gateway.listening import listen
from gateway.server import Listener, ServerRules, raise_file_limit, running, serve_until_stopped
from gateway.stopping import Stop
from tests.support.deadlines import bounded
from tests.support.rawsocket import CLOSE, DEADLINE, TEXT, RawSocket, masked, upgrade
from tests.support.recorder import MemoryRecorder
from tests.support.socketapp import Attached, Rooms


@dataclass(slots=True)
class Running:
    """A server process."""

    process: Process
    url: str
    internal_url: str

    async def line(self) -> str:
        """Read one line of what it prints."""
        assert self.process.stdout is not None
        async with asyncio.timeout(DEADLINE):
            line = await self.process.stdout.readline()
        assert line, "the process has ended"
        return line.decode().strip()

    async def until(self, wanted: str) -> None:
        """Read lines up to this one."""
        while await self.line() != wanted:
            pass

    async def exit_code(self) -> int:
        """Wait for the end."""
        async with asyncio.timeout(DEADLINE):
            return await self.process.wait()

    async def logged(self) -> str:
        """Read what it logged up to its end."""
        assert self.process.stderr is not None
        async with asyncio.timeout(DEADLINE):
            return (await self.process.stderr.read()).decode()


@asynccontextmanager
async def _process(mode: str) -> AsyncIterator[Running]:
    command = (sys.executable, "-m", "tests.support.socketserver", mode)
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    try:
        server = Running(process, "", "")
        word, *ports = (await server.line()).split()
        assert "ready" == word
        server.url, server.internal_url = (f"http://127.0.0.1:{port}" for port in ports)
        yield server
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_and_exits_0(number: signal.Signals) -> None:
    """Clients see what the drain sends them, not 1012; the lifespan ends; the exit code is 0."""
    async with _process("closes") as server:
        client = await RawSocket.websocket(server.url)
        await client.send(masked(TEXT, b"hello"))
        assert b"hello" == (await client.frame()).payload
        server.process.send_signal(number)
        farewell = await client.frame()
        await client.send(masked(CLOSE, farewell.payload))
        assert b"" == await client.rest()

        assert (CLOSE, 3001) == (farewell.opcode, farewell.code)
        await server.until("ended")
        assert 0 == await server.exit_code()


async def test_before_its_delay_is_over_a_drain_refuses_nobody() -> None:
    """Load balancers have not noticed yet: handshakes work as before, and nobody is closed."""
    async with _process("waits") as server:
        server.process.send_signal(signal.SIGTERM)
        await server.until("draining")
        late = await RawSocket.websocket(server.url)
        await late.send(masked(TEXT, b"still here"))
        assert b"still here" == (await late.frame()).payload
        late.close()


async def test_a_second_signal_hurries() -> None:
    """It ends the delay and the pacing; whoever is there still gets 3001, and the lifespan its end."""
    async with _process("waits") as server:
        clients = [await RawSocket.websocket(server.url) for _ in range(100)]
        server.process.send_signal(signal.SIGTERM)
        await server.until("draining")
        server.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(9.0):  # ten a second would take ten
            assert {3001} == {(await it.frame()).code for it in clients}
        for client in clients:
            await client.send(masked(CLOSE, (3001).to_bytes(2)))
            assert b"" == await client.rest()
        await server.until("ended")
        assert 0 == await server.exit_code()


@pytest.mark.parametrize(("path", "code"), [("/stuck", 0), ("/clings", 70)])
async def test_a_third_signal_leaves_requests_behind(path: str, code: int) -> None:
    """A request that never ends does not keep the process from exiting, not even one that cannot be cancelled."""
    async with _process("waits") as server:
        client = await RawSocket.connect(server.url)
        await client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        probe = await RawSocket.websocket(server.url)
        server.process.send_signal(signal.SIGTERM)
        await server.until("draining")
        server.process.send_signal(signal.SIGTERM)
        assert 3001 == (await probe.frame()).code  # the second signal has been taken
        probe.close()
        server.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(DEADLINE):  # well before the requests' own grace, of a minute here
            assert code == await server.exit_code()
        client.close()


@pytest.mark.parametrize("mode", ["raises", "none"])
async def test_without_a_drain_clients_see_1012(mode: str) -> None:
    """A drain that fails, or none, still ends orderly, with exit code 0."""
    async with _process(mode) as server:
        client = await RawSocket.websocket(server.url)
        server.process.send_signal(signal.SIGTERM)
        assert 1012 == (await client.frame()).code
        client.close()
        await server.until("ended")
        assert 0 == await server.exit_code()


async def test_a_client_that_does_not_read_cannot_hold_the_process() -> None:
    """With its buffer full it is aborted, and the exit code is 0 all the same."""
    async with _process("none") as server:
        client = await RawSocket.connect(server.url, receive_buffer=4096)
        await client.send(upgrade() + masked(TEXT, b"x" * 60_000) * 5)
        await client.head()
        server.process.send_signal(signal.SIGTERM)
        await server.until("ended")
        assert 0 == await server.exit_code()
        client.close()


async def test_a_lifespan_is_given_its_time() -> None:
    """An end of two seconds is waited for, and nothing is said of it."""
    async with _process("lingers") as server:
        server.process.send_signal(signal.SIGTERM)
        await server.until("ended")
        assert 0 == await server.exit_code()
        assert "lifespan." not in await server.logged()


async def test_a_lifespan_that_never_ends_is_cancelled() -> None:
    """The log says where it hung, down to the innermost await; the exit code is 0."""
    async with _process("hangs") as server:
        server.process.send_signal(signal.SIGTERM)
        assert 0 == await server.exit_code()
        logged = await server.logged()
        assert re.search(r"lifespan\.hangs .*at=\[.*\bhang \(.*socketserver\.py:\d+\).*seconds=10", logged)
        assert "server.left_behind" not in logged


async def test_a_lifespan_that_clings_to_its_life_ends_with_the_process() -> None:
    """Cancelling does not help: the process exits with 70 and says what it left behind, and where that was."""
    async with _process("clings") as server:
        server.process.send_signal(signal.SIGTERM)
        assert 70 == await server.exit_code()
        assert re.search(
            r"server\.left_behind .*\'lifespan\'.*\bcling \(.*socketserver\.py:\d+\)", await server.logged()
        )


async def test_the_internal_port() -> None:
    """It answers plain requests, and knows no WebSockets."""
    async with _process("closes") as server:
        client = await RawSocket.connect(server.internal_url)
        await client.send(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
        assert 200 == (await client.head()).status
        client.close()
        client = await RawSocket.connect(server.internal_url)
        await client.send(upgrade("/ws"))
        assert 404 == (await client.head()).status
        await client.rest()


async def test_a_start_that_fails_is_the_callers() -> None:
    """What the application raises at its start comes out as it was, and the port is closed again."""
    rules = ServerRules(recorder=MemoryRecorder())
    app = Rooms(Attached()).app

    @asynccontextmanager
    async def lifespan(_app: object) -> AsyncIterator[None]:
        raise OperatorError("no such thing: set another")
        yield

    app.router.lifespan_context = lifespan
    sock = listen("127.0.0.1", 0)
    with pytest.raises(OperatorError, match="no such thing"):
        await asyncio.wait_for(serve_until_stopped([Listener(app, sock)], rules=rules, stop=Stop()), DEADLINE)
    assert -1 == sock.fileno()
    with pytest.raises(OperatorError, match="no such thing"):
        async with bounded(running(app, rules=rules)):
            pytest.fail("it must not run")


async def test_a_start_that_fails_ends_what_had_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second port fails: the application behind the first one has its time to end, and no more."""
    monkeypatch.setattr("gateway.lifespan.END", 0.05)
    app = Rooms(Attached()).app
    ending = asyncio.Event()

    @asynccontextmanager
    async def lifespan(_app: object) -> AsyncIterator[None]:
        yield
        ending.set()
        await asyncio.Event().wait()

    app.router.lifespan_context = lifespan
    closed = listen("127.0.0.1", 0)
    closed.close()
    listeners = [Listener(app, listen("127.0.0.1", 0)), Listener(app, closed, websockets=False)]
    with pytest.raises((OSError, ValueError)):
        await asyncio.wait_for(
            serve_until_stopped(listeners, rules=ServerRules(recorder=MemoryRecorder()), stop=Stop()), DEADLINE
        )
    assert ending.is_set()


async def test_a_stop_during_the_start() -> None:
    """Who is asked to stop while the application still starts does not wait for it."""
    stop = Stop()
    app = Rooms(Attached()).app

    @asynccontextmanager
    async def lifespan(_app: object) -> AsyncIterator[None]:
        stop.ask()
        await asyncio.Event().wait()
        yield

    app.router.lifespan_context = lifespan
    rules = ServerRules(recorder=MemoryRecorder())
    async with asyncio.timeout(DEADLINE):
        await serve_until_stopped([Listener(app, listen("127.0.0.1", 0))], rules=rules, stop=stop)


def test_a_taken_port_says_what_to_do() -> None:
    """The message names the port and the option that chooses another."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OperatorError, match=rf"port {port} .* is taken: .* with --port"):
            listen("127.0.0.1", port)
        with pytest.raises(OperatorError, match=r"http_server\.internal_port"):
            listen("127.0.0.1", port, option="http_server.internal_port")


def test_an_address_of_another_machine() -> None:
    """It is refused with its name, be it unknown or elsewhere."""
    with pytest.raises(OperatorError, match=r"nowhere\.invalid"):
        listen("nowhere.invalid", 0)
    with pytest.raises(OperatorError, match=r"192\.0\.2\.1 port 8000"):
        listen("192.0.2.1", 8000)


def test_a_shared_port() -> None:
    """With `reuse_port` several processes may listen on one port; it takes both to want it."""
    with listen("127.0.0.1", 0, reuse_port=True) as first:
        port = first.getsockname()[1]
        listen("127.0.0.1", port, reuse_port=True).close()
        with pytest.raises(OperatorError, match="taken"):
            listen("127.0.0.1", port)


def test_the_file_limit_is_raised() -> None:
    """The soft limit becomes the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        raise_file_limit()
        assert (hard, hard) == resource.getrlimit(resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
