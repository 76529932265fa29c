"""Clients that a test talks through: the official SDKs, each in a process of its own, and a bare chat client.

Down the pipe to an SDK go lines `{"id": 1, "verb": "publish", ...}`; up come `{"id": 1, "result": ...}` or
`{"id": 1, "error": {"code": 103, ...}}`, and, at any time, `{"event": "publication", ...}`.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.support.cluster import Account

PATIENCE = 20.0  # seconds; a test that waits so long has failed
HERE = Path(__file__).parent
SDKS = ("js", "0.5", "0.7")  # npm centrifuge, and versions of PyPI centrifuge-python
PYTHON_SDKS = Path(sys.prefix) / "sdk"  # `make test` installs them there, one folder for each version

Event: TypeAlias = dict[str, Any]
Tokens: TypeAlias = Callable[[str], Awaitable[str]]


class PeerError(Exception):
    """An SDK's call failed, as its user sees it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Inbox:
    """What a client was told, in order; each event is taken once."""

    def __init__(self, owner: str, kind: str) -> None:
        self._owner = owner
        self._kind = kind
        self._came = asyncio.Event()
        self._waiting: list[Event] = []
        self.all: list[Event] = []

    def put(self, event: Event) -> None:
        """Add an event."""
        self.all.append(event)
        self._waiting.append(event)
        self._came.set()

    def of(self, kind: str, **fields: Any) -> list[Event]:
        """Return all events of a kind so far, taken or not."""
        return [event for event in self.all if self._fits(event, kind, fields)]

    async def take(self, kind: str, **fields: Any) -> Event:
        """Wait for the first event of a kind, with these fields, that was not taken yet."""
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    for event in self._waiting:
                        if self._fits(event, kind, fields):
                            self._waiting.remove(event)
                            return event
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            seen = "\n".join(json.dumps(event) for event in self.all)
            raise AssertionError(f"{self._owner} never saw {kind} {fields}; it saw\n{seen}") from None

    def _fits(self, event: Event, kind: str, fields: dict[str, Any]) -> bool:
        return event.get(self._kind) == kind and fields.items() <= event.items()


class Peer(Inbox):
    """One client of an official SDK."""

    def __init__(self, name: str, process: Process, tokens: Tokens) -> None:
        super().__init__(name, "event")
        self._process = process
        self._tokens = tokens
        self._answers: list[asyncio.Future[Event]] = []

    async def do(self, verb: str, **how: Any) -> Any:
        """Perform a verb of the SDK. Raises PeerError when the SDK does."""
        answer: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": len(self._answers), "verb": verb, **how}).encode() + b"\n")
        line = await asyncio.wait_for(answer, PATIENCE)
        if "error" in line:
            raise PeerError(line["error"]["code"], line["error"]["message"])
        return line["result"]

    async def connect(self) -> str:
        """Connect and return the client's id."""
        await self.do("connect")
        return str((await self.take("connected"))["client"])

    async def subscribe(self, channel: str, token: str = "", *, asks: bool = False) -> Event:
        """Subscribe and return what the SDK was told."""
        await self.do("subscribe", channel=channel, token=token, asks=asks)
        return await self.take("subscribed", channel=channel)

    async def publish(self, channel: str, data: Any) -> None:
        """Publish."""
        await self.do("publish", channel=channel, data=data)

    async def listen(self) -> None:
        """Take the lines of the process in until it closes its end."""
        assert self._process.stdout is not None
        async with asyncio.TaskGroup() as group:
            async for raw in self._process.stdout:
                line = json.loads(raw)
                if "id" in line:
                    self._answers[line["id"] - 1].set_result(line)
                    continue
                self.put(line)
                if line["event"] == "token_wanted":
                    group.create_task(self._hand_over(line["ask"], line["channel"]))

    async def _hand_over(self, ask: int, channel: str) -> None:
        await self.do("token", ask=ask, token=await self._tokens(channel))


@asynccontextmanager
async def each_sdk(url: str, account: Account, **how: Any) -> AsyncIterator[list[Peer]]:
    """Run every SDK, side by side, with a client of the same user that is not connected yet."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(peer(sdk, url, account, **how)) for sdk in SDKS]


def command(sdk: str) -> tuple[Sequence[str], dict[str, str]]:
    """Return what runs an SDK: `js`, or a version of the Python one; and its environment."""
    if sdk == "js":
        return [str(shutil.which("node")), str(HERE / "sdk" / "peer.mjs")], {}
    # -S: nothing but the standard library and the folder of this version can be imported
    return [sys.executable, "-S", str(HERE / "sdk" / "peer.py")], {"PYTHONPATH": str(PYTHON_SDKS / sdk)}


@asynccontextmanager
async def peer(
    sdk: str, url: str, account: Account, *, token: str | None = None, asks: bool = True, ping_delay: float = 10.0
) -> AsyncIterator[Peer]:
    """Run an SDK with a client that is not connected yet. `asks`: it gets tokens from the auth service."""
    program, env = command(sdk)
    options = {
        "url": url,
        "token": account.access_token if token is None else token,
        "asks": asks,
        "ping_delay": ping_delay,
    }
    process = await asyncio.create_subprocess_exec(
        *program, json.dumps(options), stdin=PIPE, stdout=PIPE, env={**_environment(), **env}
    )
    it = Peer(f"{account.user} ({sdk})", process, account.token)
    listening = asyncio.create_task(it.listen())
    try:
        yield it
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(PATIENCE):
                await listening
                await process.wait()
        finally:
            listening.cancel()
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


class Chat(Inbox):
    """A bare chat client: a WebSocket and JSON."""

    def __init__(self, user: str, link: ClientConnection) -> None:
        super().__init__(f"{user} (chat)", "type")
        self._link = link

    async def send(self, kind: str, **fields: Any) -> None:
        """Send one message."""
        await self._link.send(json.dumps({"type": kind, **fields}))

    async def say(self, text: str) -> None:
        """Write to the room."""
        await self.send("chat", message=text)

    async def close(self) -> None:
        """Leave."""
        await self._link.close()

    async def listen(self) -> None:
        """Take messages in until the link is closed, then the code."""
        with suppress(ConnectionClosed):
            async for text in self._link:
                self.put(json.loads(text))
        self.put({"type": "closed", "code": self._link.close_code})


def _environment() -> dict[str, str]:
    """Return ours without proxies, which the SDKs would ask for the way to 127.0.0.1."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}


@asynccontextmanager
async def bare(url: str, *commands: Event) -> AsyncIterator[Inbox]:
    """Connect to a Centrifuge endpoint, send these commands, and never another frame: no pong, no refresh.

    The inbox gets every reply and push under the name of its member, and `closed` with the code at the end.
    """
    async with connect(url, proxy=None) as link:
        await link.send("\n".join(json.dumps({"id": 1 + n, **it}) for n, it in enumerate(commands)))
        inbox = Inbox("a bare client", "kind")
        listening = asyncio.create_task(_listen_barely(link, inbox))
        try:
            yield inbox
        finally:
            await link.close()
            await listening


async def _listen_barely(link: ClientConnection, inbox: Inbox) -> None:
    with suppress(ConnectionClosed):
        async for text in link:
            for line in map(json.loads, str(text).splitlines()):
                for kind, value in line.get("push", line).items():
                    if isinstance(value, dict):
                        inbox.put({"kind": kind, **value})
    inbox.put({"kind": "closed", "code": link.close_code})


@asynccontextmanager
async def chat(url: str, room: str, account: Account) -> AsyncIterator[Chat]:
    """Enter a room of the node at this HTTP address."""
    bearer = {"Authorization": f"Bearer {account.access_token}"}
    where = f"{url.replace('http', 'ws', 1)}/ws/{room}"
    async with connect(where, additional_headers=bearer, proxy=None) as link:
        it = Chat(account.user, link)
        listening = asyncio.create_task(it.listen())
        try:
            await it.take("welcome")
            yield it
        finally:
            await link.close()
            await listening
