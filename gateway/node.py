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
from gateway.departures import Departures
from gateway.disconnects import SHUTDOWN
from gateway.draining import Drain, DrainRules
from gateway.hub import Hub
from gateway.joining import JoinTools, SharedReads
from gateway.orders import Orders
from gateway.outbox import Flusher
from gateway.protocol.messages import Survey
from gateway.protocol.policy import Policy
from gateway.protocol.session import Session
from gateway.protocol.values import Hello, NodeInfo
from gateway.recipients import Group
from gateway.relay import Relay
from gateway.shell import Shell
from gateway.timers import CHUNK, SLICE, TICK, TimerWheel
from gateway.types import Channel, ClientInfo, ConnectionId, NodeId, UserId
from gateway.users import CONNECTIONS_OF, UserLimit, UserRules, enter, leave

log = structlog.get_logger(__name__)

DEPARTURE_SECONDS: Final = 2.0  # for presence and publications under way, when everybody has gone

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
    users: UserRules = UserRules()  # noqa: RUF009 - it is frozen
    drain: DrainRules = DrainRules()  # noqa: RUF009 - it is frozen


class Node:
    """Owns hub, timers, engine and connections. An EngineSink to its engine."""

    def __init__(self, *, options: NodeOptions, verifier: Verifier, clock: Clock, recorder: Recorder) -> None:
        self.id = NodeId(str(uuid.uuid4()))
        self.options = options
        self.connections: dict[ConnectionId, Connection] = {}
        self.users: dict[UserId, set[Connection]] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self._verifier = verifier
        self._clock = clock
        self._recorder = recorder
        self._groups: dict[tuple[str, str], Group] = {}
        self._shell: Shell | None = None
        self._turning: asyncio.Task[None] | None = None
        self.departures = Departures()
        self.drain = Drain(self.connections, rules=options.drain, settle=self._settle)
        self.started_at = clock.monotonic()
        self.flusher = Flusher(call_soon=self._call_soon, now=clock.monotonic, flushed=self._flushed)
        self.hub = Hub(flusher=self.flusher, spilt=self._spilt)
        self.wheel = TimerWheel(clock.monotonic())
        self.commanded = Orders(
            self.connections,
            self.users,
            verifier=verifier,
            clock=clock,
            wheel=self.wheel,
            call_soon=self._call_soon,
        ).carry_out
        self.user_limit = UserLimit(
            rules=options.users,
            users=self.users,
            engine=lambda: self.engine,
            clock=clock,
            wheel=self.wheel,
            close=self.commanded,
            expect=self.departures.expect,
        )
        self.relay = Relay(hub=self.hub, clock=clock, recorder=recorder, wheel=self.wheel)
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
            reads = None
            if engine.history is not None:
                reads = SharedReads(engine.history)
                self.relay.connect(engine.history)
            self._shell = Shell(
                tools=JoinTools(hub=self.hub, relay=self.relay, engine=engine, reads=reads, departures=self.departures),
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
                await self.drain.at_once()
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
        if self.drain.over:
            connection.close(SHUTDOWN)
            return connection
        try:
            connection.begin()
        except Exception as error:  # noqa: BLE001 - a root: nobody would ever tell us that this one is lost
            connection.failed(error, "frame")
        return connection

    def surveyed(self, question: Survey) -> bytes:
        """Answer another node, or this one."""
        if question.op == CONNECTIONS_OF:
            return self.user_limit.surveyed(question.payload)
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

    def present(self) -> Iterable[tuple[Channel, ClientInfo, bool]]:
        """Every presence entry that this node holds; see `contracts.engine.EngineSink`."""
        for connection in self.connections.values():
            for channel, seat in connection.seats.items():
                if seat.presence and seat.who is not None:
                    yield channel, seat.who, seat.announce
        yield from self.user_limit.present()

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
        if self.drain.begun:
            faults.append("draining")
        if self._turning is not None and self._turning.done():
            faults.append("the timers have stopped")
        return faults

    def outages(self) -> Sequence[str]:
        """Return what does not work right now for all nodes alike, a line each; see `contracts.engine.Engine`."""
        return self.engine.outages() if self._shell is not None else ()

    async def _settle(self) -> None:
        await self.departures.settled(self.tasks, DEPARTURE_SECONDS)

    def _group(self, codec: Codec, transport: Transport) -> Group:
        key = (codec.name, transport.framing.name)
        if key not in self._groups:
            self._groups[key] = Group(codec, transport.framing)
        return self._groups[key]

    def _opened(self, connection: Connection) -> None:
        enter(self.users, connection)
        self.user_limit.opened(connection)
        self._recorder.observe("handshake_duration", self._clock.monotonic() - connection.opened_at)

    def _forgotten(self, connection: Connection) -> None:
        self.connections.pop(connection.id, None)
        if leave(self.users, connection):
            self.user_limit.closed(connection)
        self.departures.left(connection)

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
            while self._look():  # noqa: ASYNC110 - nothing is waited for: it is the others' turn
                await asyncio.sleep(0)

    def _look(self) -> bool:
        """Look at what is due, for no longer than a slice of the turn; False: that was all."""
        now = self._clock.monotonic()
        until, more = now + SLICE, True
        while more and now < until:
            try:
                more = self.wheel.advance(now, CHUNK)
            except Exception:  # the root of the deadlines: one broken entry must not stop the wheel
                self._recorder.count("errors", "task")
                log.exception("node.deadline_failed")
            now = self._clock.monotonic()
        return more

    @staticmethod
    def _call_soon(callback: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(callback)

    def _flushed(self) -> None:
        self.relay.flushed()
        written, self.flusher.written = self.flusher.written, 0
        self._recorder.count("sent_bytes", n=written)

    def _spilt(self, count: int) -> None:
        self._recorder.count("messages_sent", "publication", count)
