"""Hub and relay against a model of one channel's stream: whatever the order of events, nobody misses or repeats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.hub import Group, Held
from gateway.protocol.messages import PublicationPush
from gateway.relay import Relay
from gateway.types import ClientInfo, ConnectionId, Position, Publication, UserId
from tests.support.listening import CHANNEL, Listener, ReadableCodec, World
from tests.support.recorder import MemoryRecorder
from tests.support.transport import FRAMING

Shown: TypeAlias = tuple[str, int, str]  # `p` with offset and epoch; `u` (not kept) or `w` (join, leave) with a number
Step: TypeAlias = tuple[str, int]  # what happens, and to whom or how often

QUIET: Final = 2  # the group that is shown publications only
ORDINARY: Final = (
    *("publish", "publish", "deliver", "deliver", "deliver", "publish_unkept", "duplicate", "announce"),
    *("join", "enter", "enter", "settle", "settle", "release", "release", "remove", "turn"),
)
TROUBLE: Final = ("lose", "begin_anew", "rebuild_link")


@dataclass(eq=False)
class Member:
    """One recipient and what it must see."""

    listener: Listener
    held: Held
    read: Position
    stage: str = "joining"  # then ready, live, gone
    reply: Position | None = None
    due: list[int] = field(default_factory=list)  # numbers of joins, leaves and unkept publications it must see


class Model:
    """One stream, its wire to this node, and recipients in all stages."""

    def __init__(self) -> None:
        self.world = World()
        self.relay = Relay(hub=self.world.hub, clock=self.world.clock, recorder=MemoryRecorder())
        self.groups = [
            self.world.group,
            Group(ReadableCodec("other"), FRAMING),
            Group(ReadableCodec("quiet", shows=(PublicationPush,)), FRAMING),
        ]
        self.top = Position(0, "e0")
        self.number = 0
        self.wire: list[Publication] = []
        self.past: list[Publication] = []
        self.members: list[Member] = []
        self.reading: list[Member] = []
        self.trouble = False  # something was lost, or the stream began anew: only then anybody may be told so

    def run(self, steps: list[Step]) -> None:
        """Let everything happen, then let the rest arrive, and look."""
        for name, n in steps:
            act: Callable[[int], None] = getattr(self, name)
            act(n)
            self.notice()
        self.deliver(len(self.wire))
        self.turn(0)

    # --- the stream and its wire

    def publish(self, n: int) -> None:
        """The stream grows by one to three."""
        for _ in range(1 + n % 3):
            self.top = Position(self.top.offset + 1, self.top.epoch)
            data = b":" + self.top.epoch.encode()
            self.wire.append(Publication(data, self.top.offset, self.top.epoch))

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

    def begin_anew(self, _: int) -> None:
        """The stream loses its identity."""
        self.top = Position(0, f"e{int(self.top.epoch[1:]) + 1}")
        self.trouble = True

    def rebuild_link(self, _: int) -> None:
        """The link was down: what was on the wire is gone."""
        self.wire.clear()
        self.trouble = True
        self.relay.suspect([CHANNEL], "link")

    # --- recipients

    def enter(self, n: int) -> None:
        """Begin to join; history is read at once, its answer is used later."""
        listener = Listener(self.world, group=self.groups[n % 3])
        held = listener.enter(watch=n % 2 == 0, positioned=n % 4 != 3)  # one in four keeps no position
        member = Member(listener, held, self.top)
        self.members.append(member)
        self.reading.append(member)

    def settle(self, n: int) -> None:
        """Take the answers of some reads, as `joining.py` does; they come in the order in which they were asked."""
        for member in self.reading[: 1 + n]:
            del self.reading[0]
            if member.held.broken:  # it reads again
                member.held.broken = False
                member.read = self.top
                self.reading.append(member)
                continue
            interest = self.world.hub.interests[CHANNEL]
            if not interest.settle(member.held, member.read):
                self.relay.suspect([CHANNEL], "epoch", spare=member.held)
                assert interest.settle(member.held, member.read)
            member.stage = "ready"

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

    def join(self, n: int) -> None:
        """Join in one go."""
        self.enter(n)
        while self.reading:
            self.settle(len(self.reading))
        self.release(-1)

    def remove(self, n: int) -> None:
        """Leave, in any stage."""
        for member in [it for it in self.members if it.stage != "gone"][n : n + 1]:
            self.world.hub.leave(CHANNEL, member.listener)
            self.end(member)

    def end(self, member: Member) -> None:
        """Nothing may follow in its log."""
        if member in self.reading:
            self.reading.remove(member)
        member.listener.put(b"t:left\n")
        member.stage = "gone"

    # --- what must hold

    def notice(self) -> None:
        """See who was told that something is missing."""
        for member in self.members:
            if member.stage != "gone" and member.listener.missed:
                assert self.trouble, "told without a reason"
                assert member.stage == "live"
                self.end(member)

    def turn(self, _: int) -> None:
        """The turn ends: everything is written. Logs only grow, so it is enough to look at them now."""
        self.notice()
        self.world.turns.take_all()
        for member in self.members:
            shown = read(member)
            check_order(member, shown)
            if member.stage == "live":
                self.check_complete(member, shown)

    def check_complete(self, member: Member, shown: list[Shown]) -> None:
        """Whoever was not told has everything that the node has passed on."""
        if not self.trouble:
            assert [number for kind, number, _ in shown if kind != "p"] == member.due
        position = self.world.hub.interests[CHANNEL].position
        if member.held.positioned:
            assert position is not None
            assert member.reply is not None
            assert position.epoch == member.reply.epoch
            last = max((number for kind, number, _ in shown if kind == "p"), default=member.reply.offset)
            assert last >= position.offset


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
    return ("p", int(head[1:]), rest) if head.startswith("p") else ("w", int(rest), "")


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


@given(steps=program(ORDINARY))
@settings(max_examples=400, deadline=None)
def test_without_trouble_everybody_gets_everything_once_and_nobody_is_told(steps: list[Step]) -> None:
    """Joins, leaves, delays and repetitions alone cost nobody a publication, an event, or a subscription."""
    Model().run(steps)


@given(steps=program((*ORDINARY, *TROUBLE)))
@settings(max_examples=400, deadline=None)
def test_with_trouble_every_log_is_whole_or_its_reader_was_told(steps: list[Step]) -> None:
    """Losses, new epochs and rebuilt links: no quiet gap, no repetition, no disorder."""
    Model().run(steps)
