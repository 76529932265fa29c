"""Recovery against a model of a stream: whatever happens, the client gets everything in order or is told."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocol.recovery import Merge, merge
from gateway.protocol.values import HistoryPage
from gateway.types import Position, Publication

EPOCHS = ("aaaaaaaa", "bbbbbbbb", "cccccccc")


@dataclass
class Stream:
    """What a broker with history does, and all that it ever published."""

    size: int
    epoch: int = 0
    top: int = 0
    kept: list[Publication] = field(default_factory=list)
    ever: dict[tuple[str, int], Publication] = field(default_factory=dict)

    def publish(self) -> Publication:
        """Append one, trim the oldest."""
        self.top += 1
        new = Publication(f"{self.epoch}:{self.top}".encode(), self.top, EPOCHS[self.epoch])
        self.kept = [*self.kept, new][-self.size :]
        self.ever[new.epoch, new.offset] = new
        return new

    def begin_epoch(self) -> None:
        """Lose everything, as a restarted server does."""
        if self.epoch + 1 < len(EPOCHS):
            self.epoch, self.top, self.kept = self.epoch + 1, 0, []

    def read(self, since: Position | None, limit: int) -> HistoryPage:
        """Read after a position, oldest first; or the newest, newest first."""
        top = Position(self.top, EPOCHS[self.epoch])
        if since is None:
            return HistoryPage(self.kept[::-1][:limit], top)
        return HistoryPage([it for it in self.kept if it.offset > since.offset][:limit], top)


STEPS = st.lists(st.sampled_from(["publish"] * 8 + ["epoch", "forget"]), max_size=12)
LIMITS = st.sampled_from([0, 1, 2, 300])


def _run(stream: Stream, steps: list[str]) -> list[Publication]:
    came = []
    for step in steps:
        if step == "publish":
            came.append(stream.publish())
        elif step == "epoch":
            stream.begin_epoch()
        else:
            stream.kept = []
    return came


@st.composite
def histories(draw: st.DrawFn) -> tuple[Stream, Merge, Position | None, list[Publication]]:
    """A stream, a client's position in it, buffering that begins, a page read in between, and the merge of it all."""
    stream = Stream(size=draw(st.integers(1, 8)))
    _run(stream, draw(STEPS))
    since = draw(st.sampled_from([None, Position(stream.top, EPOCHS[stream.epoch])]))
    if since is not None and draw(st.booleans()):
        since = Position(draw(st.integers(0, stream.top + 2)), draw(st.sampled_from(["", "_", *EPOCHS])))
    _run(stream, draw(STEPS))
    before = _run(stream, draw(STEPS))
    page = stream.read(since, draw(LIMITS))
    after = _run(stream, draw(STEPS))
    came = before + after
    lost = draw(st.sets(st.integers(0, 24), max_size=2))
    buffered = [it for index, it in enumerate(came) if index not in lost]
    buffered += draw(st.lists(st.sampled_from(buffered), max_size=3)) if buffered else []
    buffered += [Publication(b"no offset")] * draw(st.integers(0, 1))
    buffered = draw(st.permutations(buffered))
    return stream, merge(page, buffered, since), since, [it for it in buffered if it.offset]


@settings(max_examples=400, deadline=None)
@given(histories())
def test_everything_in_order_or_told(history: tuple[Stream, Merge, Position | None, list[Publication]]) -> None:
    """No loss, no duplicate, no reorder up to the position; or recovered is False and there is nothing."""
    stream, merged, since, buffered = history
    offsets = [it.offset for it in merged.publications]
    position = merged.position
    assert all(stream.ever[position.epoch, it.offset] == it for it in merged.publications)
    if since is None:
        assert not merged.recovered
        assert offsets == [] or offsets == list(range(offsets[0], position.offset + 1))
    elif merged.recovered:
        assert since.epoch in {"", position.epoch}
        assert offsets == list(range(since.offset + 1, position.offset + 1))
    else:
        assert offsets == []
    beyond = [it for it in buffered if (it.epoch, it.offset > position.offset) != (position.epoch, False)]
    assert merged.hole == bool(beyond)


@settings(max_examples=200, deadline=None)
@given(missed=st.integers(0, 8), meanwhile=st.integers(0, 8), late=st.integers(0, 8), shuffled=st.randoms())
def test_what_can_be_recovered_is(missed: int, meanwhile: int, late: int, shuffled: random.Random) -> None:
    """With enough history and nothing lost on the way the merge recovers, wherever the page fell."""
    stream = Stream(size=100)
    _run(stream, ["publish"] * 3)
    since = Position(stream.top, EPOCHS[0])
    _run(stream, ["publish"] * missed)
    buffered = _run(stream, ["publish"] * meanwhile)
    page = stream.read(since, 300)
    buffered += _run(stream, ["publish"] * late)
    shuffled.shuffle(buffered)
    merged = merge(page, buffered, since)
    assert (merged.recovered, merged.hole) == (True, False)
    assert [it.offset for it in merged.publications] == list(range(4, 4 + missed + meanwhile + late))
