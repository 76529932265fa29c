"""The other nodes: who is alive, and questions to all of them. Nothing here is kept; a lost message costs one round."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec
import structlog

from gateway.contracts.broker import Done
from gateway.contracts.engine import EngineOptions, EngineSink
from gateway.engines.redis.broker import RedisBroker
from gateway.errors import EngineFault
from gateway.protocol.messages import Survey
from gateway.protocol.values import NodeInfo, Published, PublishOptions
from gateway.types import Channel, NodeId

NODES: Final = Channel("nodes")  # everybody listens
ANNOUNCED_EVERY: Final = 3.0  # seconds
FORGOTTEN_AFTER: Final = 10.0  # seconds: two announcements may get lost

log = structlog.get_logger(__name__)


class Announcement(msgspec.Struct, tag="announcement"):
    """I am here, and these are my numbers."""

    info: NodeInfo


class Farewell(msgspec.Struct, tag="farewell"):
    """I am leaving."""

    node: NodeId


class Question(msgspec.Struct, tag="question"):
    """Answer this to the asker's own channel."""

    asker: NodeId
    survey: Survey


class Answer(msgspec.Struct, tag="answer"):
    """The answer of one node."""

    survey: str
    node: NodeId
    payload: bytes


Word: TypeAlias = Announcement | Farewell | Question | Answer


@dataclass(slots=True)
class _Pending:
    """A survey under way."""

    done: Done[Mapping[NodeId, bytes]]
    expected: set[NodeId]
    answers: dict[NodeId, bytes]
    timer: asyncio.TimerHandle


class Peers:
    """The table of live nodes and the surveys of this node; `clock` returns monotonic seconds."""

    def __init__(
        self, broker: RedisBroker, *, sink: EngineSink, clock: Callable[[], float], options: EngineOptions
    ) -> None:
        self._broker = broker
        self._sink = sink
        self._clock = clock
        self._node = options.node
        self._recorder = options.recorder
        self._decode = msgspec.json.Decoder(Word).decode
        self._loop = asyncio.get_running_loop()
        self._heard: dict[NodeId, tuple[float, NodeInfo]] = {}
        self._pending: dict[str, _Pending] = {}
        self._gone = False

    @property
    def own_channel(self) -> Channel:
        """Where answers for this node arrive."""
        return _addressed(self._node)

    def nodes(self) -> Mapping[NodeId, NodeInfo]:
        """Return everybody heard of lately, and this node as it is right now."""
        horizon = self._clock() - FORGOTTEN_AFTER
        live = {node: info for node, (heard, info) in self._heard.items() if heard > horizon}
        live[self._node] = self._sink.described()
        return live

    def announce(self) -> None:
        """Tell the others that this node lives; forget those that have fallen silent."""
        horizon = self._clock() - FORGOTTEN_AFTER
        self._heard = {node: entry for node, entry in self._heard.items() if entry[0] > horizon}
        self._say(NODES, Announcement(self._sink.described()))

    def ask(self, question: Survey, deadline: float, done: Done[Mapping[NodeId, bytes]]) -> None:
        """See `contracts.control.ControlBus.ask`; done as soon as all nodes known at this moment have answered."""
        timer = self._loop.call_later(deadline, self._finish, question.id)
        self._pending[question.id] = _Pending(done, set(self.nodes()), {}, timer)

        def asked(outcome: Published | EngineFault) -> None:
            if isinstance(outcome, EngineFault):
                self._finish(question.id, outcome)
            else:
                self._answered(Answer(question.id, self._node, self._sink.surveyed(question)))

        self._broker.publish(NODES, msgspec.json.encode(Question(self._node, question)), PublishOptions(), asked)

    def arrived(self, data: bytes) -> None:
        """Take one message from either channel."""
        if self._gone:
            return
        try:
            word: Word = self._decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:  # of a newer release, or not ours
            self._recorder.count("redis_foreign_payloads")
            log.warning("redis.unknown_word", why=str(error))
            return
        match word:
            case Announcement(info):
                self._met(info)
            case Farewell(node):
                self._heard.pop(node, None)
            case Question(asker, survey):
                if asker != self._node:
                    self._say(_addressed(asker), Answer(survey.id, self._node, self._sink.surveyed(survey)))
            case Answer():
                self._answered(word)

    def say_goodbye(self) -> None:
        """Tell the others that this node leaves; whatever arrives after that finds nobody."""
        self._say(NODES, Farewell(self._node))
        self._gone = True

    def close(self) -> None:
        """End surveys under way in a fault."""
        for survey in list(self._pending):
            self._finish(survey, EngineFault("down", "closing"))

    # --- inside

    def _say(self, channel: Channel, word: Word) -> None:
        self._broker.publish(channel, msgspec.json.encode(word), PublishOptions(), _unheard)

    def _met(self, info: NodeInfo) -> None:
        if info.uid == self._node:
            return
        stranger = info.uid not in self._heard
        self._heard[info.uid] = (self._clock(), info)
        if stranger:  # it cannot know us yet
            self._say(NODES, Announcement(self._sink.described()))

    def _answered(self, answer: Answer) -> None:
        pending = self._pending.get(answer.survey)
        if pending is None:
            return
        pending.answers[answer.node] = answer.payload
        if pending.expected <= pending.answers.keys():
            self._finish(answer.survey)

    def _finish(self, survey: str, fault: EngineFault | None = None) -> None:
        pending = self._pending.pop(survey, None)
        if pending is not None:
            pending.timer.cancel()
            pending.done(pending.answers if fault is None else fault)


def _addressed(node: NodeId) -> Channel:
    return Channel(f"node.{node}")


def _unheard(_outcome: object) -> None:
    """Take the outcome of a message that may get lost; the wire has counted a fault."""
