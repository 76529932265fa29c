from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.engines.redis.wire import GIVE_UP, Wire
from gateway.errors import EngineFault
from tests.support.clock import ManualClock
from tests.support.recorder import MemoryRecorder

TIMEOUT = 2.0


class RecordingTransport(asyncio.Transport):
    """Keeps what is written; says when it was aborted."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.aborted = False

    def write(self, data: Any) -> None:
        """Keep it."""
        self.writes.append(bytes(data))

    def abort(self) -> None:
        """Note it."""
        self.aborted = True

    def is_closing(self) -> bool:
        """Return whether it was aborted."""
        return self.aborted

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Take any limits."""


class Talk:
    """A wire, its transport, and what it told its owner."""

    def __init__(self, clock: ManualClock, recorder: MemoryRecorder) -> None:
        self.pushes: list[Any] = []
        self.lost: list[str] = []
        self.answers: list[Any] = []
        self.transport = RecordingTransport()
        self.wire = Wire(
            clock=clock.monotonic,
            timeout=TIMEOUT,
            recorder=recorder,
            pushed=self.pushes.append,
            lost=self.lost.append,
        )
        self.wire.connection_made(self.transport)

    async def call(self, *commands: str) -> None:
        """Send these commands in one turn, and wait for the write."""
        for command in commands:
            self.wire.call((command,), self.answers.append)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


@pytest.fixture(name="talk")
async def _talk(clock: ManualClock, recorder: MemoryRecorder) -> Talk:
    return Talk(clock, recorder)


async def test_commands_of_a_turn_are_one_write(talk: Talk) -> None:
    """However many commands a turn gives, the transport is called once, in their order."""
    await talk.call("A", "B")
    await talk.call("C")
    assert [b"*1\r\n$1\r\nA\r\n*1\r\n$1\r\nB\r\n", b"*1\r\n$1\r\nC\r\n"] == talk.transport.writes


async def test_an_error_does_not_repeat_what_was_sent(talk: Talk) -> None:
    """A server that does not know a command echoes its arguments; the first of ours holds the password."""
    await talk.call("HELLO")
    talk.wire.data_received(b"-ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'u' 'secret' \r\n")
    assert ["ERR unknown command 'HELLO'"] == [answer.detail for answer in talk.answers]


async def test_replies_go_to_their_commands_in_order(talk: Talk) -> None:
    """Replies cut anywhere reach the callbacks first in, first out; pushes pass them by."""
    await talk.call("A", "B", "C")
    stream = b"+one\r\n>2\r\n$7\r\nmessage\r\n$1\r\nx\r\n$5\r\nt\r\nwo\r\n*2\r\n:3\r\n_\r\n"
    for n in range(len(stream)):
        talk.wire.data_received(stream[n : n + 1])
    assert [b"one", b"t\r\nwo", [3, None]] == talk.answers
    assert [[b"message", b"x"]] == talk.pushes


@pytest.mark.parametrize(
    ("line", "kind", "fatal"),
    [
        (b"-OOM command not allowed when used memory > 'maxmemory'.", "oom", False),
        (b"-READONLY You can't write against a read only replica.", "readonly", True),
        (b"-NOSCRIPT No matching script.", "refused", True),
        (b"-WRONGTYPE Operation against a key", "refused", False),
        (b"-LOADING Valkey is loading the dataset in memory", "busy", False),
        (b"-BUSY Valkey is busy running a script.", "busy", False),
        (b"-MASTERDOWN", "busy", False),
        (b"-MISCONF Errors writing to disk.", "readonly", False),
        (b"-NOREPLICAS Not enough good replicas to write.", "readonly", False),
        (b"-ERR", "refused", False),
    ],
)
async def test_error_replies_are_faults(
    talk: Talk, recorder: MemoryRecorder, line: bytes, kind: str, fatal: bool
) -> None:
    """An error reply is a value of the fitting kind, counted; some mean that the link must be built again."""
    await talk.call("A")
    talk.wire.data_received(line + b"\r\n")
    (fault,) = talk.answers
    assert isinstance(fault, EngineFault)
    assert kind == fault.kind
    assert line[1:].decode() == fault.detail.strip()
    assert 1 == recorder.counts["redis_errors", kind]
    assert fatal == talk.transport.aborted


async def test_an_overdue_command_is_answered_and_its_late_reply_dropped(talk: Talk, clock: ManualClock) -> None:
    """After the timeout the caller hears so; replies still find the commands they belong to."""
    await talk.call("A")
    clock.advance(TIMEOUT / 2)
    await talk.call("B")
    clock.advance(TIMEOUT / 2)
    talk.wire.sweep(clock.monotonic())
    assert ["timeout"] == [fault.kind for fault in talk.answers]
    talk.wire.data_received(b"+a\r\n+b\r\n")
    assert [b"b"] == talk.answers[1:]


async def test_what_is_overdue_is_answered_once(talk: Talk, clock: ManualClock, recorder: MemoryRecorder) -> None:
    """Neither a later sweep nor the loss of the link answers a command again."""
    await talk.call("A", "B")
    talk.wire.data_received(b"+a\r\n")
    clock.advance(TIMEOUT)
    talk.wire.sweep(clock.monotonic())
    await talk.call("C")
    talk.wire.sweep(clock.monotonic())
    talk.wire.connection_lost(None)
    assert [b"a", "timeout", "lost"] == [getattr(answer, "kind", answer) for answer in talk.answers]
    assert (1, 1) == (recorder.counts["redis_errors", "timeout"], recorder.counts["redis_errors", "lost"])


async def test_silence_ends_the_connection(talk: Talk, clock: ManualClock) -> None:
    """Some timeouts without any reply, and the connection is dropped; a reply in between resets that."""
    await talk.call("A", "B")
    clock.advance(TIMEOUT)
    talk.wire.sweep(clock.monotonic())
    talk.wire.data_received(b"+a\r\n")
    clock.advance(TIMEOUT * (GIVE_UP - 1))
    talk.wire.sweep(clock.monotonic())
    assert not talk.transport.aborted
    await talk.call("C")
    clock.advance(TIMEOUT * GIVE_UP)
    talk.wire.sweep(clock.monotonic())
    assert talk.transport.aborted


async def test_commands_without_replies_are_not_waited_for(talk: Talk, clock: ManualClock) -> None:
    """SUBSCRIBE is answered by pushes: it neither takes a reply nor counts as unanswered."""
    talk.wire.tell(("SUBSCRIBE", "x"))
    await talk.call("A")
    talk.wire.data_received(b"+a\r\n")
    talk.wire.tell(("SUBSCRIBE", "y"))
    await talk.call()
    clock.advance(TIMEOUT * 10)
    talk.wire.sweep(clock.monotonic())
    assert [b"a"] == talk.answers
    assert not talk.transport.aborted


async def test_a_loss_answers_everybody_after_the_owner(talk: Talk) -> None:
    """The owner hears of the loss first, so that whoever calls again from a callback finds the link down."""
    order: list[str] = []
    talk.wire._lost = lambda why: order.append(f"owner: {why}")
    talk.wire.call(("A",), lambda fault: order.append(f"caller: {fault.kind}"))
    talk.wire.connection_lost(ConnectionResetError("reset"))
    assert ["owner: reset", "caller: lost"] == order
    assert talk.wire.gone.done()


async def test_a_raising_callback_harms_nobody_else(talk: Talk) -> None:
    """Replies, pushes and faults behind it are still handed out."""

    def broken(_reply: object) -> None:
        raise RuntimeError("a callback that breaks its contract")

    talk.wire.call(("A",), broken)
    await talk.call("B")
    talk.wire.call(("C",), broken)
    await talk.call("D")
    talk.wire.data_received(b"+a\r\n+b\r\n")
    talk.wire.connection_lost(None)
    assert [b"b", "lost"] == [getattr(answer, "kind", answer) for answer in talk.answers]


async def test_an_owner_that_breaks_its_contract_keeps_nobody_waiting(
    clock: ManualClock, recorder: MemoryRecorder
) -> None:
    """Who waits for the end dials again or closes, and what is in flight is answered, whatever the owner raises."""

    def broken(why: str) -> None:
        raise KeyError(why)

    pushes: list[Any] = []
    answers: list[Any] = []
    wire = Wire(clock=clock.monotonic, timeout=TIMEOUT, recorder=recorder, pushed=pushes.append, lost=broken)
    wire.connection_made(RecordingTransport())
    wire.call(("A",), answers.append)
    with capture_logs() as logs:
        wire.connection_lost(None)
    assert wire.gone.done()
    assert ["lost"] == [it.kind for it in answers]
    assert ["redis.callback_failed"] == [it["event"] for it in logs]


@pytest.mark.parametrize(
    ("stream", "why"),
    [(b"HTTP/1.1 400 Bad Request\r\n", "not Redis"), (b"+unasked\r\n", "unasked"), (b"-NOPERM x\r\n", "NOPERM x")],
)
async def test_a_stream_that_makes_no_sense_ends_the_connection(talk: Talk, stream: bytes, why: str) -> None:
    """Bytes that are no replies, and replies nobody waits for, end it with the reason."""
    talk.wire.data_received(stream)
    assert talk.transport.aborted
    talk.wire.connection_lost(None)
    assert why in talk.lost[0]


async def test_each_write_is_measured_once(talk: Talk, clock: ManualClock, recorder: MemoryRecorder) -> None:
    """The time from a write to its last reply is observed, not once per command."""
    await talk.call("A", "B")
    clock.advance(0.5)
    await talk.call("C")
    talk.wire.data_received(b"+a\r\n")
    assert [] == recorder.observations
    clock.advance(0.25)
    talk.wire.data_received(b"+b\r\n+c\r\n")
    assert [("redis_command", 0.75), ("redis_command", 0.25)] == recorder.observations


async def test_a_server_that_does_not_read_is_congested(talk: Talk) -> None:
    """The transport's own marks say when commands must be refused and when they are taken again."""
    talk.wire.pause_writing()
    assert talk.wire.congested
    talk.wire.resume_writing()
    assert not talk.wire.congested


async def test_a_server_is_silent_until_it_answers_again(talk: Talk, clock: ManualClock) -> None:
    """From the command that was given up to the next answer, whichever command that belongs to."""
    await talk.call("A")
    clock.advance(TIMEOUT / 2)
    await talk.call("B")
    assert not talk.wire.silent
    clock.advance(TIMEOUT / 2)
    talk.wire.sweep(clock.monotonic())
    assert talk.wire.silent
    talk.wire.data_received(b">2\r\n$7\r\nmessage\r\n$1\r\nx\r\n")
    assert talk.wire.silent, "a push is no answer"
    talk.wire.data_received(b"+a\r\n")
    assert not talk.wire.silent


@pytest.mark.parametrize("before", [True, False])
async def test_who_is_turned_away_at_the_door_hears_why(talk: Talk, before: bool) -> None:
    """An error that comes ahead of the first command is the answer to it, gone or not."""
    talk.wire.data_received(b"-ERR max number of clients reached\r\n")
    if not before:
        talk.wire.connection_lost(None)
    asking = asyncio.ensure_future(talk.wire.ask("HELLO"))
    await asyncio.sleep(0)
    if before:
        talk.wire.connection_lost(None)
    with pytest.raises(EngineFault, match="max number of clients") as caught:
        await asking
    assert "refused" == caught.value.kind


async def test_a_connection_that_is_gone_is_not_asked_in_vain(talk: Talk) -> None:
    """The fault comes at once, and says how it ended."""
    talk.wire.connection_lost(ConnectionResetError("reset"))
    with pytest.raises(EngineFault, match="lost: reset"):
        await talk.wire.ask("HELLO")


async def test_an_error_later_on_is_no_refusal_at_the_door(talk: Talk) -> None:
    """After an answer, what is in flight when the connection goes may have happened."""
    await talk.call("A")
    talk.wire.data_received(b"+a\r\n-ERR something\r\n")
    await talk.call("B")
    talk.wire.connection_lost(None)
    assert ["lost"] == [fault.kind for fault in talk.answers[1:]]
