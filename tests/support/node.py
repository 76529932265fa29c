"""A real node over the memory engine, with clients whose link is the test and time that the test turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.answers import answer
from gateway.connection import Connection
from gateway.contracts.engine import Engine, EngineOptions, EngineSink
from gateway.errors import TokenError
from gateway.metrics import COUNTERS, HISTOGRAMS
from gateway.node import Node, NodeOptions
from gateway.protocol.channels import ChannelOptions, Namespaces
from gateway.protocol.messages import Revoke
from gateway.protocol.policy import Policy
from gateway.protocol.revocations import Denylist
from gateway.protocol.values import Hello, PublishOptions
from gateway.resolver import all_codecs, engine_for
from gateway.types import Channel, ClientInfo, ConnectionId, Identity, NodeId, Publication, UserId
from tests.support.clock import ManualClock
from tests.support.recorder import MemoryRecorder
from tests.support.transport import RecordingTransport

ROOM = Channel("chat:lobby")
PLAIN = Channel("plain:lobby")  # no history, no presence

NAMESPACES = Namespaces(
    by_name={
        "chat": ChannelOptions(
            presence=True,
            join_leave=True,
            force_push_join_leave=True,
            history_size=10,
            history_ttl=60.0,
            history_meta_ttl=600.0,
            force_recovery=True,
            allow_subscribe_for_client=True,
            allow_publish_for_subscriber=True,
            allow_publish_for_client=True,
            allow_history_for_client=True,
            allow_presence_for_client=True,
        ),
        "plain": ChannelOptions(allow_subscribe_for_client=True, allow_publish_for_client=True),
    },
)


class StrictRecorder(MemoryRecorder):
    """Knows the table of metrics, so that a wrong name is noticed."""

    def count(self, name: str, label: str = "", n: int = 1) -> None:
        """Add to a counter of the table."""
        row = COUNTERS[name]
        known = row.values.split()
        assert not known or label in known or name == "disconnects", (name, label)  # any code may be ordered
        super().count(name, label, n)

    def observe(self, name: str, seconds: float) -> None:
        """Keep one value of a histogram of the table."""
        assert name in HISTOGRAMS
        super().observe(name, seconds)


@dataclass
class TokenTable:
    """A verifier for which a token is the name of its user; `bad` is no good, `slow:` ones need a key first."""

    identities: dict[str, Identity] = field(default_factory=dict)
    keys: asyncio.Event = field(default_factory=asyncio.Event)
    denied: Denylist = field(default_factory=Denylist)

    def known(self, token: str, now: float) -> Identity | TokenError | None:
        """See the contract."""
        del now
        return None if token.startswith("slow:") else self._look_up(token)

    async def verify(self, token: str) -> Identity:
        """See the contract; waits for `keys`."""
        if token.startswith("slow:"):
            await self.keys.wait()
        found = self._look_up(token.removeprefix("slow:"))
        if isinstance(found, TokenError):
            raise found
        return found

    def revoke(self, revocation: Revoke) -> None:
        """See the contract; revocations do not end here."""
        self.denied.add(revocation, 0.0)

    def revoked(self, identity: Identity) -> bool:
        """See the contract."""
        return self.denied.find(identity, 0.0) is not None

    def _look_up(self, token: str) -> Identity | TokenError:
        found = self.identities.get(token) or Identity(UserId(token))
        if token == "bad" or self.revoked(found):
            return TokenError(3500, "invalid token")
        return found


@dataclass
class Client:
    """The other end of one connection, speaking Centrifuge JSON unless another codec was named."""

    link: RecordingTransport
    connection: Connection
    ids: int = 0

    def ask(self, **commands: Any) -> int:
        """Send one command in a frame of its own; return its id."""
        self.ids += 1
        self.link.send({"id": self.ids, **commands})
        return self.ids

    def connect(self, user: str = "alice") -> int:
        """Send connect, with a token of this user."""
        return self.ask(connect={"token": user})

    def subscribe(self, channel: str = ROOM, **fields: Any) -> int:
        """Send subscribe."""
        return self.ask(subscribe={"channel": channel, **fields})

    def publish(self, data: Any, channel: str = ROOM) -> int:
        """Send publish."""
        return self.ask(publish={"channel": channel, "data": data})

    def reply(self, ref: int) -> Any:
        """Return the reply to a command, None if there is none yet."""
        found = [it for it in self.link.messages() if it.get("id") == ref]
        assert len(found) < 2
        return found[0] if found else None

    def pushes(self) -> list[Any]:
        """Return all pushes so far."""
        return [it["push"] for it in self.link.messages() if "push" in it]

    def published(self) -> list[Any]:
        """Return the data of all publications pushed so far."""
        return [it["pub"]["data"] for it in self.pushes() if "pub" in it]

    def story(self) -> list[str]:
        """Return what came, in one word each: reply ids, publication data, joins and leaves by user."""
        told = []
        for message in self.link.messages():
            push = message.get("push", {})
            for kind in ("join", "leave"):
                told += [f"{kind} {push[kind]['info']['user']}"] if kind in push else []
            told += [f"pub {push['pub']['data']}"] if "pub" in push else []
            told += [f"unsubscribe {push['unsubscribe']['code']}"] if "unsubscribe" in push else []
            told += [f"reply {message['id']}"] if "id" in message else []
        return told


class World:
    """One node, running."""

    def __init__(self, node: Node, clock: ManualClock, recorder: StrictRecorder, tokens: TokenTable) -> None:
        self.node = node
        self.clock = clock
        self.recorder = recorder
        self.tokens = tokens

    def client(self, codec: str = "centrifuge_json", *, native_ping: bool = False, **hello: Any) -> Client:
        """Attach a link."""
        link = RecordingTransport()
        codecs = all_codecs()
        greeting = Hello(link.peer, **hello)
        connection = self.node.attach(link, codecs[codec], greeting, native_ping=native_ping)
        link.receiver = connection
        return Client(link, connection)

    async def opened(self, user: str = "alice", *channels: str) -> Client:
        """Attach a link, connect and subscribe."""
        client = self.client()
        client.connect(user)
        for channel in channels:
            client.subscribe(channel)
        await self.settled()
        return client

    async def settled(self) -> None:
        """Take turns of the loop until the node has nothing more to do by itself."""
        for _ in range(50):
            await asyncio.sleep(0)

    def deliver(self, data: str, channel: Channel = PLAIN) -> None:
        """Let a publication without history arrive now, within this turn."""
        self.node.published(channel, Publication(data.encode()))

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Let time pass until the condition holds, a minute at most."""
        for _ in range(600):
            if condition():
                return
            self.wait(0.1)
        raise AssertionError("it did not come")

    def wait(self, seconds: float) -> None:
        """Let time pass, in steps that the wheel would see."""
        for _ in range(round(seconds * 10)):
            self.clock.advance(0.1)
            self.node.wheel.advance(self.clock.monotonic())

    async def publish(self, *data: str, channel: Channel = ROOM, kept: bool = True) -> None:
        """Publish as the server API does."""
        options = PublishOptions(history_size=10, history_ttl=60.0, history_meta_ttl=600.0)
        for it in data:
            await answer(self.node.engine.broker.publish, channel, it.encode(), options if kept else PublishOptions())

    async def members(self, channel: Channel = ROOM) -> Mapping[ConnectionId, ClientInfo]:
        """Return who is present."""
        presence = self.node.engine.presence
        assert presence is not None
        return await answer(presence.members, channel)

    async def assert_nothing_left(self) -> None:
        """Fail if the node, its hub, the broker or presence still know of anybody."""
        await self.settled()
        assert {} == self.node.connections
        assert {} == self.node.users
        assert {} == self.node.hub.interests
        assert set() == self.node.tasks
        broker: Any = self.node.engine.broker
        assert {} == dict(broker._refs)
        assert {} == await self.members()


@asynccontextmanager
async def running_node(**changes: Any) -> AsyncIterator[World]:
    """Run a node; `changes` go to NodeOptions or, if it has no such field, to every codec's Policy."""
    clock, recorder, tokens = ManualClock(), StrictRecorder(), TokenTable()
    own = {
        name: changes.pop(name)
        for name in ("queue_limit", "stall_timeout", "close_timeout", "users", "drain")
        if name in changes
    }
    policy = replace(Policy(namespaces=NAMESPACES, command_rate=0.0, ping_interval=0.0), **changes)
    options = NodeOptions(name="node-1", version="0", policies=dict.fromkeys(all_codecs(), policy), **own)
    node = Node(options=options, verifier=tokens, clock=clock, recorder=recorder)

    def open_engine(sink: EngineSink, node_id: NodeId) -> AbstractAsyncContextManager[Engine]:
        return engine_for("memory://")(
            "memory://", sink=sink, clock=clock, options=EngineOptions(node=node_id, recorder=recorder)
        )

    async with node.running(open_engine):
        yield World(node, clock, recorder, tokens)
        for connection in tuple(node.connections.values()):
            link = connection.transport
            assert isinstance(link, RecordingTransport)
            if link.receiver is not None:
                link.hang_up()
