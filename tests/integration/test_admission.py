"""Gates before any route, on bare sockets: exact counts, files, memory, outages, and what a refusal costs."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.app import create_gateway
from gateway.server import ServerRules, running
from gateway.settings import Settings
from gateway.transports.admission import Admission
from gateway.transports.headroom import LAST_RESERVE, RESERVE, Headroom
from tests.support.deadlines import bounded
from tests.support.exactness import within
from tests.support.ports import free_port
from tests.support.rawsocket import DEADLINE, TEXT, RawSocket, masked, on_uvloop, upgrade
from tests.support.socketapp import Attached, EchoReceiver
from tests.support.stage import staged
from tests.support.valkey import Valkey

FILES = 256
TICKS = os.sysconf("SC_CLK_TCK")


@on_uvloop
async def test_exactly_so_many_of_an_address_however_fast_they_come() -> None:
    """Of 60 that ask at the same moment 30 are let in."""
    async with staged(admission=Admission(per_address=30)) as stage:
        clients = [await RawSocket.connect(stage.url) for _ in range(60)]
        await asyncio.gather(*(client.send(upgrade()) for client in clients))
        heads = await asyncio.gather(*(client.head() for client in clients))
        for client in clients:
            client.close()

        assert (30, 30) == ([it.status for it in heads].count(101), [it.status for it in heads].count(429))
        assert 30 == stage.recorder.counts["handshakes", "limit_ip"]


@on_uvloop
async def test_an_address_cannot_be_talked_away() -> None:
    """Who is no proxy of ours counts by its own address, whatever it says of another."""
    async with staged(admission=Admission(per_address=2)) as stage:
        answers = []
        for number in range(4):
            head, client = await stage.ask(upgrade("/ws", f"X-Forwarded-For: 198.51.100.{number}"))
            answers.append((head.status, client))
        for _, client in answers:
            client.close()

        assert [101, 101, 429, 429] == [status for status, _ in answers]


@on_uvloop
async def test_without_memory_nobody_more_is_let_in() -> None:
    """Over four fifths of the limit: 503 for newcomers; who is there is served, and so are plain requests."""
    resident = 700
    headroom = Headroom(memory_limit=1000, resident=lambda: resident)
    async with staged(admission=Admission(headroom=headroom), attached=Attached(EchoReceiver)) as stage:
        client = await RawSocket.websocket(stage.url)
        resident = 900
        headroom._looked_at = 0.0  # as if a second had gone by
        refused = await stage.refused(upgrade())
        await client.send(masked(TEXT, b"fine"))
        assert b"fine" == (await client.frame()).payload
        client.close()

        assert (503, 1) == (refused.status, stage.recorder.counts["handshakes", "capacity"])
        assert 5 <= int(refused.headers["retry-after"]) <= 15


@pytest.mark.parametrize(("let_in", "status"), [(True, 101), (False, 503)])
@on_uvloop
async def test_while_redis_is_away(let_in: bool, status: int) -> None:
    """Newcomers are let in for what works without, or sent away with 503, as the operator likes."""
    sections = {
        "engine": {"url": f"redis://127.0.0.1:{free_port()}/0"},
        "client": {"insecure": True, "connect_when_engine_down": let_in},
        "log": {"level": "none"},
    }
    made = create_gateway(Settings.model_validate(sections))
    rules = ServerRules(recorder=made.metrics, admission=made.admission)
    async with bounded(running(made.public, rules=rules)) as url:
        client = await RawSocket.connect(url)
        await client.send(upgrade("/connection/websocket"))
        head = await client.head()
        client.close()
        counted = made.metrics.exposition()[0].decode()

    assert status == head.status
    assert f'gateway_handshakes_total{{result="unavailable"}} {0 if let_in else 1}.0' in counted


async def test_when_redis_is_back_newcomers_are_let_in(tmp_path: Path) -> None:
    """The gate opens by itself."""
    valkey = Valkey(tmp_path)
    sections = {
        "engine": {"url": valkey.url},
        "client": {"insecure": True, "connect_when_engine_down": False},
        "log": {"level": "none"},
    }
    made = create_gateway(Settings.model_validate(sections))
    rules = ServerRules(recorder=made.metrics, admission=made.admission)
    async with bounded(running(made.public, rules=rules)) as url:
        assert 503 == await _status(url)
        await asyncio.to_thread(valkey.start)
        try:
            async with asyncio.timeout(DEADLINE):
                while await _status(url) != 101:  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.05)
        finally:
            valkey.stop()


async def _status(url: str, path: str = "/connection/websocket") -> int:
    client = await RawSocket.connect(url)
    try:
        await client.send(upgrade(path))
        return (await client.head()).status
    except (EOFError, ConnectionError):
        return 0
    finally:
        client.close()


# --- files


@asynccontextmanager
async def _short_of_files() -> AsyncIterator[tuple[str, Process]]:
    """Run a server process that may open few files."""
    command = f"ulimit -n {FILES}; exec {sys.executable} -m tests.support.socketserver none"
    process = await asyncio.create_subprocess_exec("/bin/sh", "-c", command, stdout=PIPE, stderr=PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(DEADLINE):
            _, port, _ = (await process.stdout.readline()).split()
        yield f"http://127.0.0.1:{port.decode()}", process
    finally:
        process.kill()
        await process.communicate()


def _busy(process: Process) -> float:
    """Return the seconds of CPU that a process has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _open_files(process: Process) -> int:
    return len(list(Path(f"/proc/{process.pid}/fd").iterdir()))


async def _try(url: str, number: int) -> tuple[int, RawSocket]:
    """Ask for a WebSocket from one of several addresses; 0 = closed without a word."""
    client = await RawSocket.connect(url, source=f"127.0.0.{2 + number % 8}")
    try:
        await client.send(upgrade())
        return (await client.head()).status, client
    except (EOFError, ConnectionError):
        return 0, client


async def _fill(url: str) -> list[RawSocket]:
    """Open WebSockets until one is refused; return those that were let in."""
    let_in: list[RawSocket] = []
    for number in range(FILES):
        status, client = await _try(url, number)
        if status != 101:
            client.close()
            assert 503 == status
            return let_in
        let_in.append(client)
    raise AssertionError("nobody was refused")


async def test_files_never_run_out() -> None:
    """Upgrades end before the files do, plain requests later; idle sockets cannot take the last ones either.

    Whoever is there stays and is served, the server does not spin, and freed files are used within a second.
    """
    async with _short_of_files() as (url, process):
        clients = await _fill(url)
        assert FILES - RESERVE - 40 < len(clients) < FILES - RESERVE
        plain = await RawSocket.connect(url)
        await plain.send(b"GET /plain HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert 200 == (await plain.head()).status
        plain.close()
        idle = [await RawSocket.connect(url, source="127.0.0.20") for _ in range(2 * FILES)]
        assert b"HTTP/1.1 503 " == (await idle[-1].rest())[:13]
        assert _open_files(process) <= FILES - LAST_RESERVE + 2

        began, busy = time.monotonic(), _busy(process)
        for client in clients:
            await client.send(masked(TEXT, b"here"))
            assert b"here" == (await client.frame()).payload
        await asyncio.sleep(1.0)
        assert _busy(process) - busy < 0.2 * (time.monotonic() - began)

        for client in (*clients[:50], *idle):
            client.close()
        freed = time.monotonic()
        async with asyncio.timeout(DEADLINE):
            while await _status(url, "/ws") != 101:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.02)
        assert time.monotonic() - freed < within(1.0, otherwise=8.0)
        for client in clients[50:]:
            client.close()
