"""The control bus over Redis: commands on a channel with history, nodes and surveys on channels without."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.contracts.broker import Done
from gateway.contracts.clock import Clock
from gateway.contracts.engine import EngineOptions, EngineSink
from gateway.engines.redis.broker import RedisBroker
from gateway.engines.redis.commands import COMMANDS, Commands
from gateway.engines.redis.envelope import Envelope
from gateway.engines.redis.history import RedisHistory
from gateway.engines.redis.partition import Place
from gateway.engines.redis.peers import NODES, Peers
from gateway.engines.redis.revocations import Revocations
from gateway.protocol.messages import ControlCommand, Survey
from gateway.protocol.values import NodeInfo
from gateway.types import Channel, ClientInfo, NodeId, Publication


class RedisControl:
    """See `contracts.control.ControlBus`. `place` leads to names of the bus's own, so no client can reach them."""

    def __init__(
        self, place: Place, *, sink: EngineSink, clock: Clock, envelope: Envelope, options: EngineOptions
    ) -> None:
        broker = RedisBroker(place, audience=self, clock=clock.monotonic, envelope=envelope, options=options)
        history = RedisHistory(place, envelope=envelope, recorder=options.recorder)
        self._partition = place(COMMANDS)
        self._revocations = Revocations(
            self._partition, carry_out=sink.commanded, wall=clock.wall, recorder=options.recorder
        )
        self._commands = Commands(
            broker,
            history,
            self._revocations,
            carry_out=sink.commanded,
            clock=clock.monotonic,
            recorder=options.recorder,
        )
        self._peers = Peers(broker, sink=sink, clock=clock.monotonic, options=options)
        for channel in (COMMANDS, NODES, self._peers.own_channel):
            broker.keep(channel)

    @property
    def ready(self) -> bool:
        """Whether commands reach this node, and it knows what was revoked before."""
        return self._commands.started and self._revocations.started

    async def stands(self) -> None:
        """Wait until commands reach this node, and it knows what was revoked before."""
        await self._commands.caught_up.wait()
        await self._revocations.caught_up.wait()

    def send(self, command: ControlCommand, done: Done[None]) -> None:
        """See the contract."""
        self._commands.send(command, done)

    def ask(self, question: Survey, deadline: float, done: Done[Mapping[NodeId, bytes]]) -> None:
        """See the contract."""
        self._peers.ask(question, deadline, done)

    def nodes(self) -> Mapping[NodeId, NodeInfo]:
        """See the contract."""
        return self._peers.nodes()

    def announce(self) -> None:
        """Tell the others that this node lives."""
        if self._partition.commands.up:
            self._peers.announce()

    def tick(self) -> None:
        """Try again what failed, and check what is too quiet; call it about once a second."""
        self._commands.check()
        self._revocations.expire()
        if self._partition.commands.answers:
            self._commands.catch_up()

    def came_up(self) -> None:
        """Take that commands can be sent again: what was said meanwhile may have been missed."""
        self.announce()
        self._revocations.doubt()
        self._commands.fall_behind()
        self.tick()

    def close(self) -> None:
        """Say goodbye."""
        if self._partition.commands.up:
            self._peers.say_goodbye()
        self._peers.close()

    # --- the audience of its own broker

    def published(self, channel: Channel, publication: Publication) -> None:
        """Take a message of the bus."""
        if channel == COMMANDS:
            self._commands.arrived(publication)
        else:
            self._peers.arrived(publication.data)

    def suspect(self, channels: Iterable[Channel], _why: str) -> None:
        """Commands may be missing; words between nodes repeat themselves."""
        if COMMANDS in channels:
            self._revocations.doubt()
            self._commands.fall_behind()
            self.tick()

    def joined(self, channel: Channel, who: ClientInfo, first: bool) -> None:
        """Nobody joins these channels."""

    def left(self, channel: Channel, who: ClientInfo, last: bool) -> None:
        """Nobody leaves these channels."""
