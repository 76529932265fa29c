from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest

from gateway.contracts.engine import EngineOptions
from gateway.engines.redis.broker import RedisBroker
from gateway.engines.redis.peers import FORGOTTEN_AFTER, NODES, Announcement, Answer, Farewell, Peers, Question
from gateway.errors import EngineFault
from gateway.protocol.messages import Survey
from gateway.protocol.values import NodeInfo, Published, PublishOptions
from gateway.types import Channel, NodeId
from tests.support.clock import ManualClock
from tests.support.engines import RecordingSink
from tests.support.recorder import MemoryRecorder

HERE, THERE, ELSEWHERE = NodeId("here"), NodeId("there"), NodeId("elsewhere")


class ScriptedBroker:
    """Keeps what is published; the test says what comes of it."""

    def __init__(self) -> None:
        self.said: list[tuple[Channel, Any]] = []
        self.outcome: Published | EngineFault = Published()
        self.at_once = False

    def publish(self, channel: Channel, data: bytes, _options: PublishOptions, done: Callable[[Any], None]) -> None:
        """Keep it, and answer on the next turn, or at once."""
        self.said.append((channel, msgspec.json.decode(data, type=Announcement | Farewell | Question | Answer)))
        if self.at_once:
            done(self.outcome)
        else:
            asyncio.get_running_loop().call_soon(done, self.outcome)


class Company:
    """The peers under test and all around them."""

    def __init__(self, clock: ManualClock, recorder: MemoryRecorder) -> None:
        self.broker = ScriptedBroker()
        self.sink = RecordingSink(HERE)
        self.peers = Peers(
            cast("RedisBroker", self.broker),
            sink=self.sink,
            clock=clock.monotonic,
            options=EngineOptions(node=HERE, recorder=recorder),
        )
        self.answers: list[Any] = []

    def hear(self, word: Announcement | Farewell | Question | Answer) -> None:
        """Let a message arrive."""
        self.peers.arrived(msgspec.json.encode(word))

    def meet(self, *nodes: NodeId) -> None:
        """Let nodes announce themselves."""
        for node in nodes:
            self.hear(Announcement(NodeInfo(node, "n", "1")))

    async def ask(self, deadline: float = 3600.0) -> None:
        """Ask everybody, and let the question go out."""
        self.peers.ask(Survey(id="s", op="x"), deadline, self.answers.append)
        await turn()


async def turn() -> None:
    """Let what is due run."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@pytest.fixture(name="company")
async def _company(clock: ManualClock, recorder: MemoryRecorder) -> Company:
    return Company(clock, recorder)


async def test_a_stranger_is_told_of_us_once(company: Company) -> None:
    """A node not heard of before cannot know us; one that is known is not answered, nor is our own echo."""
    company.meet(THERE, THERE, HERE)
    assert [(NODES, Announcement(company.sink.described()))] == company.broker.said
    assert {HERE, THERE} == set(company.peers.nodes())


async def test_silence_is_forgotten(company: Company, clock: ManualClock) -> None:
    """After its time a node is not listed, and after the next announcement not even kept."""
    company.meet(THERE)
    clock.advance(FORGOTTEN_AFTER / 2)
    company.meet(ELSEWHERE)
    clock.advance(FORGOTTEN_AFTER / 2)
    assert {HERE, ELSEWHERE} == set(company.peers.nodes())
    company.peers.announce()
    assert {ELSEWHERE} == set(company.peers._heard)


async def test_nothing_is_said_after_the_farewell(company: Company) -> None:
    """An announcement that arrives while we leave is not answered: it would bring us back into the tables."""
    company.peers.say_goodbye()
    company.meet(THERE)
    company.hear(Question(THERE, Survey(id="s", op="x")))
    assert [(NODES, Farewell(HERE))] == company.broker.said


async def test_a_question_is_answered_to_its_asker(company: Company) -> None:
    """The answer goes to the asker's own channel; our own question, coming back, is not answered again."""
    company.hear(Question(THERE, Survey(id="s", op="x")))
    company.hear(Question(HERE, Survey(id="s", op="x")))
    assert [(Channel("node.there"), Answer("s", HERE, b"yes"))] == company.broker.said


async def test_a_survey_ends_when_all_known_nodes_have_answered(company: Company) -> None:
    """Not before; strangers who answer in time are included, answers to other surveys are not."""
    company.meet(THERE)
    await company.ask()
    company.hear(Answer("other", THERE, b"0"))
    company.hear(Answer("s", ELSEWHERE, b"1"))
    assert [] == company.answers
    company.hear(Answer("s", THERE, b"2"))
    company.hear(Answer("s", THERE, b"3"))
    assert [{HERE: b"yes", ELSEWHERE: b"1", THERE: b"2"}] == company.answers


async def test_a_survey_that_could_not_be_asked_is_a_fault(company: Company) -> None:
    """If the question did not go out nobody is waited for."""
    company.broker.outcome = EngineFault("down")
    await company.ask()
    assert [company.broker.outcome] == company.answers


async def test_the_deadline_ends_a_survey(company: Company) -> None:
    """Who did not answer is absent; an answer that comes later is dropped."""
    company.meet(THERE)
    ended = asyncio.Event()

    def done(answers: object) -> None:
        company.answers.append(answers)
        ended.set()

    company.broker.at_once = True  # or the deadline, on a loop that stood still, would come before our own answer
    company.peers.ask(Survey(id="s", op="x"), 0.01, done)
    await asyncio.wait_for(ended.wait(), 5)
    company.hear(Answer("s", THERE, b"late"))
    assert [{HERE: b"yes"}] == company.answers


async def test_closing_ends_surveys(company: Company) -> None:
    """Whoever waits gets a fault, once."""
    company.meet(THERE)
    await company.ask()
    company.peers.close()
    company.peers.close()
    assert ["down"] == [fault.kind for fault in company.answers]


async def test_garbage_is_counted(company: Company, recorder: MemoryRecorder) -> None:
    """What is no word of ours is dropped."""
    for data in (b"", b"{}", b'{"type":"whisper"}', b"\xff"):
        company.peers.arrived(data)
    assert 4 == recorder.counts["redis_foreign_payloads", ""]
