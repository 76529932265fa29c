"""A model of one channel: its stream, its wire to a node, its history, and recipients in all stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from hypothesis import strategies as st

from gateway.errors import EngineFault
from gateway.protocol.messages import PublicationPush
from gateway.protocol.recovery import merge
from gateway.protocol.values import HistoryPage, HistoryQuery
from gateway.recipients import Group, Held
from gateway.relay import Relay
from gateway.timers import TimerWheel
from gateway.types import ClientInfo, ConnectionId, Position, Publication, UserId
from tests.support.clock import ManualClock
from tests.support.listening import CHANNEL, Listener, ReadableCodec, World
from tests.support.recorder import MemoryRecorder
from tests.support.stream import Stream
from tests.support.transport import FRAMING

Shown: TypeAlias = tuple[str, int, str]  # `p` with offset and epoch; `u` (not kept) or `w` (join, leave) with a number
Step: TypeAlias = tuple[str, int]  # what happens, and to whom or how often

QUIET: Final = 2  # the group that is shown publications only
QUIET_ROUNDS: Final = 6  # of quiet, at the end: the position check looks twice, then it is mended
ORDINARY: Final = (
    *("publish", "publish", "deliver", "deliver", "deliver", "publish_unkept", "duplicate", "announce"),
    *("join", "enter", "enter", "serve", "answer", "release", "release", "remove", "turn"),
)
MENDABLE: Final = (
    *("lose", "lose", "swap", "rebuild_link", "flood", "fail", "wait", "serve", "answer"),
    *("overtake", "overtake", "lose_after_reading", "lose_after_reading"),
)
FATAL: Final = ("begin_anew", "overtake_anew", "trim", "forget_link", "breathe", "breathe")


@dataclass(eq=False)
class Member:
    """One recipient and what it must see."""

    listener: Listener
    held: Held
    stage: str = "joining"  # then ready, live, gone
    reads: int = 0
    told: bool = False
    reply: Position | None = None
    due: list[int] = field(default_factory=list)  # numbers of joins, leaves and unkept publications it must see


class Model:
    """One channel at one node."""

    def __init__(self) -> None:
        clock = ManualClock()
        self.clock = clock
        self.world = World(clock)
        self.recorder = MemoryRecorder()
        self.wheel = TimerWheel(clock.monotonic())
        self.relay = Relay(hub=self.world.hub, clock=clock, recorder=self.recorder, wheel=self.wheel)
        self.groups = [
            self.world.group,
            Group(ReadableCodec("other"), FRAMING),
            Group(ReadableCodec("quiet", shows=(PublicationPush,)), FRAMING),
        ]
        self.stream = Stream()
        self.relay.connect(self.stream)
        self.number = 0
        self.wire: list[Publication] = []
        self.past: list[Publication] = []
        self.members: list[Member] = []
        self.trouble = False  # something did not arrive
        self.fatal = False  # and cannot be brought back: only then anybody may be told so

    def run(self, steps: list[Step]) -> None:
        """Let everything happen, then let the rest arrive, and look."""
        for name, n in steps:
            act: Callable[[int], None] = getattr(self, name)
            act(n)
            self.notice()
        self.stream.failing = ""
        self.wait(7)  # channels whose reads have failed wait no longer
        self.lose_after_reading(len(steps))
        if len(steps) % 3 == 1:
            self.overtake(len(steps) % 8)
        elif len(steps) % 3 == 2 and self.fatal:
            self.overtake_anew(1)
        self.settle_down()
        self.wait(7)  # nor do those that could not hold what came
        self.settle_down()
        self.check_prompt()
        for _ in range(QUIET_ROUNDS):
            self.settle_down()
            self.clock.advance(41.0)
            self.wheel.advance(self.clock.monotonic())
            self.notice()
        self.turn(0)
        for member in self.members:
            self.check_end(member)
        if not self.fatal:
            assert 0 == self.recorder.counts["repairs", "lost"]

    def settle_down(self) -> None:
        """Everything under way comes to its end."""
        self.deliver(len(self.wire))
        while self.stream.asked or self.stream.answers:
            self.serve(len(self.stream.asked))
            self.answer(len(self.stream.answers))
            self.notice()
        for _ in [it for it in self.members if it.stage == "ready"]:
            self.release(0)

    # --- the stream and its wire

    def publish(self, n: int) -> None:
        """The stream grows by one to three."""
        for _ in range(1 + n % 3):
            self.wire.append(self.stream.append(0))

    def flood(self, n: int) -> None:
        """Larger ones, of which few can be held."""
        for _ in range(1 + n):
            self.wire.append(self.stream.append(FLOOD_SIZE))

    def publish_unkept(self, _: int) -> None:
        """A publication skips history."""
        self.number += 1
        self.wire.append(Publication(b":u%d" % self.number))

    def deliver(self, n: int) -> None:
        """Some of what was published arrives, in order."""
        for publication in self.wire[: 1 + n]:
            if publication.offset:
                self.past.append(publication)
            else:
                self.expect(int(publication.data[2:]), watchers=False)
            self.relay.published(CHANNEL, publication)
        del self.wire[: 1 + n]

    def duplicate(self, n: int) -> None:
        """One that was passed on arrives once more."""
        interest = self.world.hub.interests.get(CHANNEL)
        position = None if interest is None else interest.position
        if position is not None:
            known = [it for it in self.past if it.epoch == position.epoch and it.offset <= position.offset]
            for publication in known[-1 - n :][:1]:
                self.relay.published(CHANNEL, publication)

    def announce(self, n: int) -> None:
        """Somebody joins or leaves."""
        self.number += 1
        self.expect(self.number, watchers=True)
        tell = self.relay.joined if n % 2 else self.relay.left
        tell(CHANNEL, ClientInfo(UserId(str(self.number)), ConnectionId("c")), True)

    def expect(self, number: int, *, watchers: bool) -> None:
        """Note what everybody who is here must be shown."""
        for member in self.members:
            shown = not watchers or (member.held.watch and member.listener.group is not self.groups[QUIET])
            if member.stage != "gone" and shown:
                member.due.append(number)

    # --- trouble

    def lose(self, _: int) -> None:
        """The next one does not arrive."""
        if self.wire and self.wire[0].offset:
            self.trouble = True
            del self.wire[0]

    def swap(self, n: int) -> None:
        """Two that follow each other arrive in another order, perhaps one of them twice."""
        if len(self.wire) > 1 and self.wire[0].offset and self.wire[1].offset:
            self.trouble = True
            first = self.wire.pop(0)
            self.wire.insert(1, first)
            if n % 2:
                self.wire.insert(2, first)

    def rebuild_link(self, _: int) -> None:
        """The link was down: what was on the wire is gone."""
        self.wire.clear()
        self.trouble = True
        self.relay.suspect([CHANNEL], "link")

    def overtake(self, n: int) -> None:
        """The link was rebuilt; what is published after the read arrives before its answer, wholly or in part."""
        self.trouble = True
        self.relay.suspect([CHANNEL], "link")
        self.serve(len(self.stream.asked))
        self.flood(2) if n % 4 == 0 else self.publish(n)
        if n % 2 and len(self.wire) > 1:
            self.lose(n)
        self.deliver(len(self.wire))
        self.answer(len(self.stream.answers))

    def overtake_anew(self, n: int) -> None:
        """The same with a new stream."""
        self.relay.suspect([CHANNEL], "link")
        self.serve(len(self.stream.asked))
        self.begin_anew(n)
        self.publish(n)
        self.deliver(n)
        self.answer(len(self.stream.answers))

    def lose_after_reading(self, n: int) -> None:
        """What is published after a read is lost, with the link; its answer arrives afterwards."""
        self.serve(len(self.stream.asked))
        self.publish(n)
        self.rebuild_link(n)
        self.answer(len(self.stream.answers))

    def forget_link(self, n: int) -> None:
        """The link was down, and history is short."""
        self.rebuild_link(n)
        self.trim(n)

    def fail(self, n: int) -> None:
        """Reads fail from now on, or work again."""
        self.stream.failing = "" if n % 2 else "timeout"
        self.trouble = True

    def begin_anew(self, _: int) -> None:
        """The stream loses its identity."""
        self.stream.top = Position(0, f"e{int(self.stream.top.epoch[1:]) + 1}")
        self.stream.kept.clear()
        self.trouble = self.fatal = True

    def trim(self, n: int) -> None:
        """The oldest that are kept go."""
        del self.stream.kept[: len(self.stream.kept) - n]
        self.trouble = self.fatal = True

    # --- time

    def serve(self, n: int) -> None:
        """The broker carries out some reads."""
        self.stream.serve(1 + n)

    def answer(self, n: int) -> None:
        """Some answers arrive."""
        self.stream.answer(1 + n)

    def wait(self, n: int) -> None:
        """Time passes."""
        self.clock.advance(0.3 * (1 + n))
        self.wheel.advance(self.clock.monotonic())

    # --- recipients

    def enter(self, n: int) -> None:
        """Begin to join: from here on all is held, and history is read."""
        listener = Listener(self.world, group=self.groups[n % 3])
        held = listener.enter(watch=n % 2 == 0, positioned=n % 4 != 3)  # one in four keeps no position
        member = Member(listener, held)
        self.members.append(member)
        self.read(member)

    def read(self, member: Member) -> None:
        """Read, and take the answer as `joining.py` does."""
        member.held.broken = False
        member.reads += 1

        def answered(page: HistoryPage | EngineFault) -> None:
            if member.stage != "joining":
                return
            if isinstance(page, EngineFault):
                self.world.hub.leave(CHANNEL, member.listener)
                self.end(member)
                return
            held = [it.publication for it in member.held.events if isinstance(it, PublicationPush)]
            hole = member.held.broken or merge(page, held, None).hole
            if hole and (member.reads == 1 or not self.fatal):
                self.read(member)
                return
            interest = self.world.hub.interests[CHANNEL]
            if not interest.settle(member.held, page.top):
                self.relay.doubt(interest)
            member.stage = "ready"

        self.stream.read(CHANNEL, HistoryQuery(), answered)

    def release(self, n: int) -> None:
        """Enqueue the reply, and let what was held follow."""
        ready = [it for it in self.members if it.stage == "ready"]
        for member in ready[n % len(ready) :][:1] if ready else []:
            assert member.held.position is not None
            member.reply = Position(member.held.position.offset, member.held.position.epoch)
            member.listener.put(b"t:reply\n")
            member.stage = "live"
            if not self.world.hub.interests[CHANNEL].release(member.held):
                member.listener.insufficient(CHANNEL, member.held.position)
            self.notice()

    def join(self, n: int) -> None:
        """Join in one go."""
        self.enter(n)
        self.serve(len(self.stream.asked))
        self.answer(len(self.stream.answers))
        self.notice()
        self.release(-1)

    def remove(self, n: int) -> None:
        """Leave, in any stage."""
        for member in [it for it in self.members if it.stage != "gone"][n : n + 1]:
            self.world.hub.leave(CHANNEL, member.listener)
            self.end(member)

    def end(self, member: Member) -> None:
        """Nothing may follow in its log."""
        member.listener.put(b"t:left\n")
        member.stage = "gone"

    # --- what must hold

    def notice(self) -> None:
        """See who was told that something is missing."""
        for member in self.members:
            if member.stage != "gone" and member.listener.missed:
                assert self.fatal, "told without a reason"
                assert member.stage == "live"
                assert member.held.broken or not self.goes_on_from(member.listener.missed[0][1])
                member.told = True
                self.end(member)

    def goes_on_from(self, position: Position | None) -> bool:
        """Whether the stream still has all that follows; nobody can say where streams began anew meanwhile."""
        first = self.stream.kept[0].offset if self.stream.kept else self.stream.top.offset + 1
        return position is not None and self.stream.top.epoch == "e0" and first <= position.offset + 1

    def check_prompt(self) -> None:
        """With everything delivered and read, nothing is missing, and nobody had to wait for the position check."""
        self.turn(0)
        for member in self.members:
            if member.stage == "live":
                assert self.world.hub.interests[CHANNEL].repair is None
                self.check_has_all(member)

    def turn(self, _: int) -> None:
        """The turn ends: everything is written. Logs only grow, so it is enough to look at them now."""
        self.notice()
        self.world.turns.take_all()
        self.notice()  # those who were told in one of these turns
        self.world.turns.take_all()
        for member in self.members:
            shown = read(member)
            check_order(member, shown)
            if member.stage == "live":
                self.check_passed_on(member, shown)

    def breathe(self, _: int) -> None:
        """One turn passes: some of those who wait to be told are."""
        self.world.turns.take()
        self.notice()

    def check_passed_on(self, member: Member, shown: list[Shown]) -> None:
        """Whoever was not told has everything that the node has passed on."""
        if not self.trouble:
            assert [number for kind, number, _ in shown if kind != "p"] == member.due
        interest = self.world.hub.interests[CHANNEL]
        if member.held.positioned:
            assert interest.position is not None
            assert member.reply is not None
            if interest.position.epoch == member.reply.epoch:
                assert last(member, shown) >= interest.position.offset
            else:
                assert interest.repair is not None, "of another stream, and nobody finds out"

    def check_end(self, member: Member) -> None:
        """After some quiet, whoever was not told has everything up to the top."""
        if member.stage == "live":
            interest = self.world.hub.interests[CHANNEL]
            assert interest.repair is None
            assert self.stream.top == interest.position
            assert member.listener not in interest.joining
            self.check_has_all(member)
        else:
            assert member.stage == "gone"

    def check_has_all(self, member: Member) -> None:
        """Its reply and log reach up to the top."""
        if member.held.positioned:
            assert member.reply is not None
            assert self.stream.top == Position(last(member, read(member)), member.reply.epoch)


FLOOD_SIZE: Final = 150  # bytes of a publication of a flood


def last(member: Member, shown: list[Shown]) -> int:
    """Return the last offset that a recipient has."""
    assert member.reply is not None
    return max((number for kind, number, _ in shown if kind == "p"), default=member.reply.offset)


def read(member: Member) -> list[Shown]:
    """Return what a recipient was sent between reply and end; there is nothing outside."""
    heard = member.listener.heard
    if "left" in heard:
        assert "left" == heard.pop()
    if "reply" not in heard:
        assert [] == heard
        return []
    assert "reply" == heard.pop(0)
    return [_parse(it) for it in heard]


def _parse(word: str) -> Shown:
    head, _, rest = word.partition(":")
    if head == "p0":
        return ("u", int(rest[1:]), "")
    return ("p", int(head[1:]), rest.rstrip(".")) if head.startswith("p") else ("w", int(rest), "")


def check_order(member: Member, shown: list[Shown]) -> None:
    """Contiguous from the reply on for who keeps a position; for everybody once and in order."""
    kept = [(offset, epoch) for kind, offset, epoch in shown if kind == "p"]
    if member.held.positioned and member.reply is not None:
        start = member.reply
        assert [(start.offset + 1 + n, start.epoch) for n in range(len(kept))] == kept
    else:
        assert sorted(set(kept), key=lambda it: (int(it[1][1:]), it[0])) == kept
    due = iter(member.due)
    assert all(number in due for kind, number, _ in shown if kind != "p")


def program(names: tuple[str, ...]) -> st.SearchStrategy[list[Step]]:
    """Return sequences of events."""
    return st.lists(st.tuples(st.sampled_from(names), st.integers(0, 7)), min_size=12, max_size=60)
