"""One gateway process as a whole: its connections, its part in the cluster, its end."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from gateway.connection import Connection
from gateway.contracts.clock import Clock
from gateway.contracts.codec import Codec
from gateway.contracts.engine import Engine, EngineSink, Linked
from gateway.contracts.recorder import Recorder
from gateway.contracts.transport import Transport
from gateway.contracts.verifier import Verifier
from gateway.disconnects import SHUTDOWN, Disconnect
from gateway.hub import Group, Hub
from gateway.joining import JoinTools, SharedReads
from gateway.outbox import Flusher
from gateway.protocol.messages import ControlCommand, DisconnectClients, Survey
from gateway.protocol.policy import Policy
from gateway.protocol.session import Session
from gateway.protocol.values import Hello, NodeInfo
from gateway.relay import Relay
from gateway.shell import Shell
from gateway.timers import TICK, TimerWheel
from gateway.types import ConnectionId, NodeId, UserId

log = structlog.get_logger(__name__)

DEPARTURE_SECONDS: Final = 2.0  # and so long for presence and publications under way

OpenEngine = Callable[[EngineSink, NodeId], AbstractAsyncContextManager[Engine]]


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What a node is told; times in seconds. `name` is shown to clients and operators."""

    name: str
    version: str
    policies: Mapping[str, Policy]  # by codec name
    queue_limit: int = 1 << 20  # bytes in one connection's outbox
    stall_timeout: float = 10.0
    close_timeout: float = 2.0
    drain_timeout: float = 30.0  # for all close handshakes together


class Node:
    """Owns hub, timers, engine and connections. An EngineSink to its engine."""

    def __init__(self, *, options: NodeOptions, verifier: Verifier, clock: Clock, recorder: Recorder) -> None:
        self.id = NodeId(str(uuid.uuid4()))
        self.options = options
        self.draining = False
        self.connections: dict[ConnectionId, Connection] = {}
        self.users: dict[UserId, set[Connection]] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self._verifier = verifier
        self._clock = clock
        self._recorder = recorder
        self._groups: dict[tuple[str, str], Group] = {}
        self._shell: Shell | None = None
        self._turning: asyncio.Task[None] | None = None
        self._empty = asyncio.Event()
        self.started_at = clock.monotonic()
        self.flusher = Flusher(call_soon=self._call_soon, now=clock.monotonic, flushed=self._flushed)
        self.hub = Hub(flusher=self.flusher, spilt=self._spilt)
        self.relay = Relay(hub=self.hub, clock=clock, recorder=recorder)
        self.wheel = TimerWheel(clock.monotonic())
        self.published = self.relay.published  # the engine's hot path: no call of ours in between
        self.joined = self.relay.joined
        self.left = self.relay.left
        self.suspect = self.relay.suspect

    @property
    def shell(self) -> Shell:
        """What connections share; there is none outside `running`."""
        assert self._shell is not None, "the node is not running"  # noqa: S101 - a wrong order of our own calls
        return self._shell

    @property
    def engine(self) -> Engine:
        """The engine, while running."""
        return self.shell.tools.engine

    @asynccontextmanager
    async def running(self, open_engine: OpenEngine) -> AsyncIterator[Node]:
        """Run the node: engine, timers, tasks. On the way out everybody still here is closed with 3001."""
        async with open_engine(self, self.id) as engine:
            reads = SharedReads(engine.history) if engine.history is not None else None
            self._shell = Shell(
                tools=JoinTools(hub=self.hub, relay=self.relay, engine=engine, reads=reads),
                wheel=self.wheel,
                verifier=self._verifier,
                clock=self._clock,
                recorder=self._recorder,
                spawn=self._spawn,
                opened=self._opened,
                forgotten=self._forgotten,
                queue_limit=self.options.queue_limit,
                stall_timeout=self.options.stall_timeout,
                close_timeout=self.options.close_timeout,
            )
            self._turning = turning = asyncio.create_task(self._turn(), name="timers")
            try:
                yield self
            finally:
                await self.drain()
                await self._finish_tasks()
                turning.cancel()
                await asyncio.gather(turning, return_exceptions=True)

    def attach(self, transport: Transport, codec: Codec, hello: Hello, *, native_ping: bool = False) -> Connection:
        """Begin a connection over a transport that has just been taken over."""
        policy = self.options.policies[codec.name]
        if native_ping:
            policy = replace(policy, show_ping=False)
        session = Session(
            client=ConnectionId(str(uuid.uuid4())),
            policy=policy,
            node=self.options.name,
            version=self.options.version,
            now=self._clock.monotonic(),
            jitter=random.random(),  # noqa: S311 - spreads pings, keeps no secret
        )
        connection = Connection(
            session=session,
            dialect=codec.dialect(hello),
            group=self._group(codec, transport),
            heartbeat="frame" if native_ping else codec.heartbeat,
            transport=transport,
            shell=self.shell,
        )
        self.connections[connection.id] = connection
        if self.draining:
            connection.close(SHUTDOWN)
            return connection
        try:
            connection.begin()
        except Exception as error:  # noqa: BLE001 - a root: nobody would ever tell us that this one is lost
            connection.failed(error, "frame")
        return connection

    def commanded(self, command: ControlCommand) -> None:
        """Do what another node, or this one, has told every node."""
        if isinstance(command, DisconnectClients):
            disconnect = Disconnect(command.code, command.reason)
            for connection in tuple(self._matching(command)):
                connection.close(disconnect)

    def surveyed(self, question: Survey) -> bytes:
        """Answer another node; nothing is asked yet."""
        log.warning("node.unknown_survey", op=question.op)
        return b""

    def described(self) -> NodeInfo:
        """This node's numbers right now."""
        return NodeInfo(
            uid=self.id,
            name=self.options.name,
            version=self.options.version,
            num_clients=len(self.connections),
            num_users=len(self.users),
            num_subs=sum(len(connection.seats) for connection in self.connections.values()),
            num_channels=len(self.hub.interests),
            uptime=int(self._clock.monotonic() - self.started_at),
        )

    def connections_by_state(self) -> Mapping[str, int]:
        """Count connections that have not identified themselves, that are open, and that are being closed."""
        closing = sum(connection.gone for connection in self.connections.values())
        opened = sum(len(connections) for connections in self.users.values())
        closing_opened = sum(it.gone for connections in self.users.values() for it in connections)
        unknown = len(self.connections) - closing - (opened - closing_opened)
        return {"unauthenticated": unknown, "open": opened - closing_opened, "closing": closing}

    def links(self) -> Mapping[str, bool]:
        """Return whether each link of the engine stands, by its role; empty for an engine without any."""
        return dict(self.engine.up) if self._shell is not None and isinstance(self.engine, Linked) else {}

    def faults(self) -> Sequence[str]:
        """Return why new connections are not welcome, a line each; empty = they are."""
        if self._shell is None:
            return ["starting"]
        faults = list(self.engine.faults())
        if self.draining:
            faults.append("draining")
        if self._turning is not None and self._turning.done():
            faults.append("the timers have stopped")
        return faults

    async def drain(self) -> None:
        """Refuse new connections, move the present ones away with 3001, and let their traces be removed."""
        if self.draining and not self.connections:
            return
        self.draining = True
        count = len(self.connections)
        for connection in random.sample(tuple(self.connections.values()), count):
            connection.close(SHUTDOWN)
        if self.connections:
            self._empty.clear()
            try:
                await asyncio.wait_for(self._empty.wait(), self.options.drain_timeout)
            except TimeoutError:
                log.warning("node.drain_timeout", left=len(self.connections))
                for connection in tuple(self.connections.values()):
                    connection.transport.abort()
        log.info("node.drained", connections=count)

    async def _finish_tasks(self) -> None:
        if self.tasks:
            _, pending = await asyncio.wait(tuple(self.tasks), timeout=DEPARTURE_SECONDS)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    def _matching(self, command: DisconnectClients) -> Iterable[Connection]:
        found: Iterable[Connection] = self.connections.values()
        if command.client:
            one = self.connections.get(ConnectionId(command.client))
            found = () if one is None else (one,)
        elif command.user:
            found = self.users.get(UserId(command.user), ())
        for connection in found:
            identity = connection.session.identity
            if (
                connection.id not in command.whitelist
                and (not command.user or connection.user == command.user)
                and (not command.session_id or (identity is not None and identity.session_id == command.session_id))
            ):
                yield connection

    def _group(self, codec: Codec, transport: Transport) -> Group:
        key = (codec.name, transport.framing.name)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = Group(codec, transport.framing)
        return group

    def _opened(self, connection: Connection) -> None:
        self.users.setdefault(connection.user, set()).add(connection)
        self._recorder.observe("handshake_duration", self._clock.monotonic() - connection.opened_at)

    def _forgotten(self, connection: Connection) -> None:
        self.connections.pop(connection.id, None)
        of_user = self.users.get(connection.user)
        if of_user is not None:
            of_user.discard(connection)
            if not of_user:
                del self.users[connection.user]
        if not self.connections:
            self._empty.set()

    def _spawn(self, work: Coroutine[Any, Any, None], connection: Connection, name: str) -> None:
        task = asyncio.create_task(self._root(work, connection), name=name)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    @staticmethod
    async def _root(work: Coroutine[Any, Any, None], connection: Connection) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - the root of a connection's tasks: logged, the connection ends
            connection.failed(error, "task")

    async def _turn(self) -> None:
        """Turn the timer wheel, and measure how late the loop lets us."""
        while True:
            before = self._clock.monotonic()
            await asyncio.sleep(TICK)
            now = self._clock.monotonic()
            self._recorder.observe("event_loop_lag", max(0.0, now - before - TICK))
            try:
                self.wheel.advance(now)
            except Exception:  # the root of the deadlines: one broken entry must not stop the wheel
                self._recorder.count("errors", "task")
                log.exception("node.deadline_failed")

    @staticmethod
    def _call_soon(callback: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(callback)

    def _flushed(self) -> None:
        self.relay.flushed()
        written, self.flusher.written = self.flusher.written, 0
        self._recorder.count("sent_bytes", n=written)

    def _spilt(self, count: int) -> None:
        self._recorder.count("messages_sent", "publication", count)
