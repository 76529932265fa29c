from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from gateway.cli import serve
from gateway.demo import leash
from gateway.demo.programs import clean_environment, script
from tests.support.deadlines import said
from tests.support.ports import free_port
from tests.support.speaking import Speaker, speaking
from tests.support.valkey import Valkey

KEY = "key"
ROOM = "chat:room"
DEADLINE = 180.0  # three interpreters start one after the other, perhaps on a busy machine
EXAMPLE = next(line.strip()[2:] for line in (serve.__doc__ or "").splitlines() if "--workers 4" in line)


def two_free_ports() -> int:
    """Return the first of two ports in a row that nobody listens on."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            first = free_port()
            try:
                one.bind(("127.0.0.1", first))
                other.bind(("127.0.0.1", first + 1))
            except (OSError, OverflowError):
                continue
            return first


class Workers:
    """The command of the help, with two workers, and what it has logged."""

    def __init__(self, folder: Path, process: asyncio.subprocess.Process, port: int, internal: int) -> None:
        self.folder = folder
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.internal = [f"http://127.0.0.1:{internal + index}" for index in range(2)]

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Return what it has said of this."""
        lines = (self.folder / "out").read_text(encoding="utf-8").splitlines(keepends=True)
        return [it for it in (json.loads(line) for line in lines if line.endswith("\n")) if it["event"] == event]

    def pids(self) -> list[int]:
        """Return the process ids of all workers that were ever up."""
        return [int(it["pid"]) for it in self.logged("worker.up")]

    def pid(self, worker: int) -> int:
        """Return the process id of the one with this index that came up last."""
        return [int(it["pid"]) for it in self.logged("worker.up") if it["worker"] == worker][-1]

    async def until_logged(self, event: str, count: int) -> None:
        """Wait until it has said this so often."""
        async with asyncio.timeout(DEADLINE):
            while len(self.logged(event)) < count:
                assert self.process.returncode is None, (self.folder / "err").read_text(encoding="utf-8")
                await asyncio.sleep(0.02)

    async def until_ready(self, *wanted: int) -> None:
        """Wait until the workers answer with these statuses when they are asked whether they are ready."""
        async with asyncio.timeout(DEADLINE), httpx.AsyncClient(trust_env=False) as client:
            for url, status in zip(self.internal, wanted, strict=True):
                while (await client.get(f"{url}/health/ready")).status_code != status:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.02)

    async def ended(self) -> int:
        """Wait for the end of the parent and of all workers; return the exit code."""
        async with asyncio.timeout(DEADLINE):
            code = await self.process.wait()
            while any(psutil.pid_exists(it) for it in self.pids()):  # noqa: ASYNC110 - they are not our children
                await asyncio.sleep(0.02)
        return code


@asynccontextmanager
async def working(folder: Path, internal: int, settings: Mapping[str, Mapping[str, object]]) -> AsyncIterator[Workers]:
    """Run two workers with these settings; all that was started is gone afterwards."""
    port = free_port(besides=(internal, internal + 1))  # nobody listens there yet
    sections = {
        "client": {"insecure": True},
        "http_server": {"port": port, "workers": 2},
        "http_api": {"key": KEY},
        "log": {"format": "json"},
        **settings,
    }
    (folder / "gateway.json").write_text(json.dumps(sections))
    _, _, flags = EXAMPLE.replace("--workers 4", "--workers 2").replace(".toml", ".json").partition("gateway ")
    env = clean_environment() | {"GATEWAY_HTTP_SERVER__INTERNAL_PORT": str(internal)}
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        leashed = (sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), script("gateway"))
        process = await asyncio.create_subprocess_exec(
            *leashed, *flags.split(), cwd=folder, env=env, stdout=out, stderr=err
        )
    workers = Workers(folder, process, port, internal)
    try:
        yield workers
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        for pid in workers.pids():
            if psutil.pid_exists(pid):
                psutil.Process(pid).kill()


async def run_drain(workers: Workers) -> str:
    """Run `gateway drain --wait` beside the parent, with its settings; return the last thing it said."""
    env = clean_environment() | {"GATEWAY_HTTP_SERVER__INTERNAL_PORT": workers.internal[0].rpartition(":")[2]}
    words = (script("gateway"), "drain", "--wait", "--config", "gateway.json")
    process = await asyncio.create_subprocess_exec(*words, cwd=workers.folder, env=env, stdout=asyncio.subprocess.PIPE)
    out, _ = await said(process, "gateway drain --wait", within=DEADLINE)
    assert 0 == process.returncode
    return out.decode().splitlines()[-1]


async def client_of(stack: AsyncExitStack, workers: Workers, worker: int) -> Speaker:
    """Connect until the kernel has chosen this worker; the others stay."""
    process = psutil.Process(workers.pid(worker))
    for _ in range(64):
        speaker = await stack.enter_async_context(speaking(workers.url))
        assert "connect" in await speaker.ask(connect={})
        speaker.patience = DEADLINE
        if any(it.raddr == speaker.link.local_address for it in process.net_connections("tcp")):
            assert "subscribe" in await speaker.ask(subscribe={"channel": ROOM})
            return speaker
    raise AssertionError(f"64 connections, none of them to worker {worker}")


async def crosses(one: Speaker, other: Speaker, text: str) -> None:
    """See that what one says the other hears."""
    since = len(other.heard)
    assert "publish" in await one.ask(publish={"channel": ROOM, "data": {"message": text}})
    await other.hear(lambda it: text in str(it.get("push", {}).get("pub")), since)


async def present(speaker: Speaker) -> set[str]:
    """Ask who is in the room."""
    return set((await speaker.ask(presence={"channel": ROOM}))["presence"]["presence"])


def end_lease_of(client: str, valkey: Valkey, prefix: str) -> None:
    """Let the lease be over under which this client is present, instead of waiting for its last seconds."""
    (owned,) = [
        key
        for key in valkey.command("KEYS", f"{prefix}.owned.*")
        if any(member.startswith(client.encode()) for member in valkey.command("SMEMBERS", key))
    ]
    tag, incarnation = owned.decode().removeprefix(f"{prefix}.owned.").split(".", 1)
    assert 0 == valkey.command("ZADD", f"{prefix}.nodes.{tag}", "XX", 1, incarnation)


async def test_two_workers_are_one_gateway(tmp_path: Path, valkey: Valkey, engine_prefix: str) -> None:
    """They share port and rooms; one that is killed comes back, its clients are gone; a second signal hurries both."""
    settings = {"engine": {"url": valkey.url, "prefix": engine_prefix}, "shutdown": {"window": "300s"}}
    async with working(tmp_path, two_free_ports(), settings) as workers, AsyncExitStack() as stack:
        await workers.until_logged("worker.up", 2)
        await workers.until_ready(200, 200)
        ours = await client_of(stack, workers, 0)
        theirs = await client_of(stack, workers, 1)
        await crosses(ours, theirs, "over")
        await crosses(theirs, ours, "and back")
        before = await present(ours)
        assert 2 == len(before)

        os.kill(workers.pid(1), signal.SIGKILL)
        assert 1006 == await theirs.closed()
        gone = theirs.heard[0]["connect"]["client"]
        end_lease_of(gone, valkey, engine_prefix)
        await ours.hear(lambda it: it.get("push", {}).get("leave", {}).get("info", {}).get("client") == gone)
        assert before - {gone} == await present(ours)
        await workers.until_logged("worker.up", 3)
        await workers.until_ready(200, 200)
        again = await client_of(stack, workers, 1)
        await crosses(ours, again, "you are back")

        workers.process.send_signal(signal.SIGTERM)
        await workers.until_ready(503, 503)
        workers.process.send_signal(signal.SIGTERM)
        assert [3001, 3001] == [await it.closed() for it in (ours, again)]
        assert 0 == await workers.ended()
    assert [("SIGKILL", 1)] == [(it["status"], it["worker"]) for it in workers.logged("worker.lost")]
    assert [0, 0] == [it["status"] for it in workers.logged("worker.ended")]
    assert "" == (tmp_path / "err").read_text()


async def test_workers_are_drained_together_and_end_with_their_parent(
    tmp_path: Path, redis_url: str, engine_prefix: str
) -> None:
    """`gateway drain` empties both, who then wait for their end; a parent that is killed leaves nobody behind."""
    settings = {"engine": {"url": redis_url, "prefix": engine_prefix}, "shutdown": {"window": "0s"}}
    async with working(tmp_path, two_free_ports(), settings) as workers, AsyncExitStack() as stack:
        await workers.until_logged("worker.up", 2)
        await workers.until_ready(200, 200)
        both = [await client_of(stack, workers, index) for index in range(2)]
        assert "drained" == await run_drain(workers)
        assert [3001, 3001] == [await it.closed() for it in both]
        await workers.until_ready(503, 503)
        workers.process.kill()
        assert -signal.SIGKILL == await workers.ended()


async def test_a_fault_of_the_settings_is_said_once_and_ends_all(
    tmp_path: Path, redis_url: str, engine_prefix: str
) -> None:
    """An internal port is taken: one line as from a single node, its exit code, nobody left."""
    internal = two_free_ports()
    with socket.create_server(("127.0.0.1", internal)):
        settings = {"engine": {"url": redis_url, "prefix": engine_prefix}}
        async with working(tmp_path, internal, settings) as workers:
            assert 1 == await workers.ended()
    said = f"port {internal} on 127.0.0.1 is taken: stop what listens there, or choose another with "
    assert f"gateway: {said}http_server.internal_port\n" == (tmp_path / "err").read_text()
    assert [(0, 1)] == [(it["worker"], it["status"]) for it in workers.logged("worker.failed")]


async def test_a_worker_whose_parent_is_dead_does_not_begin() -> None:
    """The parent died before the kernel was told: nobody would ever end this node, so it goes without a word."""
    nobody = "1"
    words = (sys.executable, "-P", "-m", "gateway.workers.worker", "99", "0", "98", nobody)
    process = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.PIPE)
    _, err = await said(process, "a worker without a parent", within=DEADLINE)
    assert (1, b"") == (process.returncode, err)
