"""A crowd: many light clients in this process that come, go and recover, publishers, and the oracle over them all."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import jwt

from gateway.types import Position
from loadtests.oracle import Ledger, Log, Verdict, verify
from tests.support.crowd_client import Ears, Link
from tests.support.crowd_http import Api, NotSentError, UnansweredError
from tests.support.crowd_life import Client, Load
from tests.support.crowd_publish import ByApi, ByCommand, Publisher, Way
from tests.support.crowd_records import Records

LOOK: Final = 0.1  # seconds between two looks at everybody


class Crowd:
    """Clients and publishers of one run. `nodes` may be changed while it runs: who connects takes any of them.

    With a `front`, clients go to that, a proxy which speaks TLS and is known by `trust`; publishers go to the nodes.
    """

    def __init__(
        self,
        load: Load,
        *,
        nodes: Sequence[str],
        secret: str,
        api_key: str,
        front: str = "",
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self.load = load
        self.nodes = list(nodes)
        self._fronts = [front] if front else []
        self._trust = trust
        self.ledger = Ledger()
        self.records = Records()
        self.settling: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.api = Api(api_key, load.publish_timeout)
        self.channels = [f"{load.namespace}:{it}" for it in range(load.channels)]
        self.clients = [Client(self, it, self._of(it)) for it in range(load.clients)]
        for client in self.clients[: int(load.churn * load.clients)]:
            client.churns = True
        self._heralds = [Client(self, load.clients + it, ()) for it in range(4 if load.by_command else 0)]
        self._by_command = ByCommand(self._herald_links, load.publish_timeout)
        self._secret = secret
        self._tokens: dict[str, tuple[str, int]] = {}  # by user, with the second in which it expires
        self._publishing = True
        self._tasks: set[asyncio.Task[None]] = set()
        self._publishers: list[asyncio.Task[None]] = []
        self.publishers = [self._publisher(channel) for channel in self.channels]

    # --- what tests ask

    @property
    def logs(self) -> list[Log]:
        """Every client's logs."""
        return [log for client in self.clients for log in client.logs.values()]

    @property
    def connected(self) -> int:
        """How many clients have a connection."""
        return sum(client.link is not None for client in self.clients)

    @property
    def ready(self) -> int:
        """How many clients are connected and subscribed to everything, or away by their own will."""
        return sum(client.ready or client.on_leave for client in self.clients)

    def on(self, node: str) -> list[Client]:
        """Return the clients connected to this node."""
        return [it for it in self.clients if it.link is not None and it.link.node == node]

    def move(self, clients: Iterable[Client], node: str, make_socket: Callable[[], socket.socket]) -> None:
        """Send clients to a node of their own, with sockets of another kind, from another network perhaps."""
        for client in clients:
            client.nodes, client.make_socket, client.churns = [node], make_socket, False
            if client.link is not None:
                client.link.cut()

    async def until(self, condition: Callable[[], object], within: float, what: str = "it") -> float:
        """Wait for a condition; return the seconds that took. Fails after `within` seconds, with the figures."""
        start = time.monotonic()
        while not condition():
            assert time.monotonic() - start < within, f"{what} did not come true in {within:g} s: {self}"
            await asyncio.sleep(0.02)
        return time.monotonic() - start

    async def back(self, share: float, within: float) -> float:
        """Wait until nobody but this share's rest is missing against its will; return the seconds that took.

        Who comes and goes all the time counts from its first return on: that all of them are there in the same moment
        is a matter of luck while one of the nodes that they try is dead.
        """
        wanted, seen = share * len(self.clients), set[Client]()

        def are_back() -> bool:
            seen.update(it for it in self.clients if it.churns and (it.ready or it.on_leave))
            return len(seen) + sum(it.ready for it in self.clients if not it.churns) >= wanted

        return await self.until(are_back, within, f"{share:.1%} ready")

    async def settled(self, within: float = 20.0) -> float:
        """Stop publishing and churning; wait until all are there and caught up, or so many seconds; return them.

        It does not fail: who is not there in time is in the verdict.
        """
        start = time.monotonic()
        await self.hush()
        for client in self.clients:
            client.churns = False
        if not self.settling.done():
            self.settling.set_result(None)
        while time.monotonic() - start < within:
            if all(client.ready for client in self.clients) and self._caught_up(await self.tops()):
                break
            await asyncio.sleep(LOOK)
        return time.monotonic() - start

    async def verdict(self, within: float = 20.0) -> Verdict:
        """Settle, judge, and print what came out."""
        took = await self.settled(within)
        verdict = verify(self.ledger, self.logs, await self.tops())
        print(f"settled in {took:.1f} s; {self.records}\n{verdict}")  # noqa: T201 - shown with a failure, or with -s
        return verdict

    async def hush(self) -> None:
        """Stop the publishers; returns when none has anything in flight."""
        self._publishing = False
        if self._publishers:
            await asyncio.wait(self._publishers)
        self._publishers = []

    def speak(self) -> None:
        """Let the publishers publish, again."""
        assert not self._publishers, "they do"
        self._publishing = True
        self._publishers = [self._spawn(it.run(lambda: self._publishing)) for it in self.publishers]
        self._tasks.update(self._publishers)

    async def tops(self) -> dict[str, Position]:
        """Read where each channel's stream stands; a channel that cannot be read is left out."""
        room = asyncio.Semaphore(16)

        async def read(channel: str) -> tuple[str, Position | None]:
            async with room:
                return channel, await self._top(channel)

        found = await asyncio.gather(*map(read, self.channels))
        return {channel: top for channel, top in found if top is not None}

    def __str__(self) -> str:
        """Return who is there, and the figures."""
        return f"{self.connected} connected, {self.ready} ready of {len(self.clients)}; {self.records}"

    # --- what its parts ask

    def new_link(self, client: Client) -> Link:
        """Return a link to a random node."""
        node = random.choice(client.nodes or self._fronts or self.nodes)
        # Bound late: the link is what tells one publisher's replies from another's.
        ears = Ears(self.records.delivered, lambda number, message: self._by_command.answered(link, number, message))
        link = Link(node, self._token(client.name), client.logs, ears, self._trust)
        return link

    # --- inside

    def _of(self, number: int) -> list[str]:
        return [self.channels[(number + it) % len(self.channels)] for it in range(self.load.channels_each)]

    def _token(self, user: str) -> str:
        """Return the token that this user has, a new one in the second half of its life."""
        now, life = time.time(), self.load.token_seconds
        token, expires = self._tokens.get(user, ("", 0))
        if expires < now + life / 2:
            expires = int(now) + life
            token = jwt.encode({"sub": user, "aud": "gateway", "exp": expires}, self._secret, algorithm="HS256")
            self._tokens[user] = token, expires
        return token

    def _publisher(self, channel: str) -> Publisher:
        way: Way = self._by_command if self.load.by_command else ByApi(self.api, self.nodes)
        return Publisher(
            channel,
            way=way,
            ledger=self.ledger,
            records=self.records,
            interval=self.load.channels / self.load.publishes,
            retry=self.load.retry,
            padding="x" * self.load.padding,
        )

    def _herald_links(self) -> list[Link]:
        return [it.link for it in self._heralds if it.link is not None]

    async def _top(self, channel: str) -> Position | None:
        for node in random.sample(self.nodes, len(self.nodes)):
            try:
                status, answer = await self.api.call(node, "history", {"channel": channel, "limit": 0})
            except (NotSentError, UnansweredError):
                continue
            if status == 200 and "result" in answer:
                return Position(answer["result"]["offset"], answer["result"]["epoch"])
            if status == 200 and answer["error"]["code"] == 108:  # no history there: nothing to lack
                return Position(0, "")
        return None

    def _caught_up(self, tops: Mapping[str, Position]) -> bool:
        def has(log: Log) -> bool:
            top, held = tops.get(log.channel), log.position
            return top is not None and held is not None and held.epoch == top.epoch and held.offset >= top.offset

        return all(has(log) for log in self.logs)

    async def _watch(self) -> None:
        while True:
            now = time.monotonic()
            for client in self.clients:
                client.look(now, self.load.ping_delay)
            await asyncio.sleep(LOOK)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.records.failures.append(f"a task of the crowd died: {task.exception()!r}")

    def _begin(self) -> None:
        asyncio.get_running_loop().set_exception_handler(self._raised)
        lives = [client.live(number / self.load.ramp) for number, client in enumerate([*self.clients, *self._heralds])]
        self._tasks.update(self._spawn(it) for it in [*lives, self._watch()])

    def _raised(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A client that stumbles over what it was sent fails the run; all else is the loop's business."""
        if isinstance(context.get("protocol"), Link):
            self.records.failures.append(f"a client stumbled: {context.get('exception')!r}")
        loop.default_exception_handler(context)

    async def _end(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.api.close()
        asyncio.get_running_loop().set_exception_handler(None)


@asynccontextmanager
async def crowd(
    load: Load,
    *,
    nodes: Sequence[str],
    secret: str,
    api_key: str,
    front: str = "",
    trust: ssl.SSLContext | None = None,
    within: float = 30.0,
) -> AsyncIterator[Crowd]:
    """Run a crowd; entered when everybody is subscribed and the publishers publish. `nodes` are base URLs."""
    people = Crowd(load, nodes=nodes, secret=secret, api_key=api_key, front=front, trust=trust)
    people._begin()
    try:
        await people.back(1.0, within)
        people.speak()
        yield people
    finally:
        await people._end()
    assert not people.records.failures, people.records.failures
