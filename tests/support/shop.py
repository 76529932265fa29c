"""A relay whose history a test serves by hand, and time that it turns."""

from __future__ import annotations

from typing import Any, Final

from gateway.relay import Relay
from gateway.timers import TimerWheel
from gateway.types import Channel, Position, Publication
from tests.support.clock import ManualClock
from tests.support.listening import CHANNEL, EPOCH, Listener, World, at
from tests.support.recorder import MemoryRecorder
from tests.support.stream import Stream

NEW: Final = "bbbb"  # the epoch of a stream that has begun anew


class Shop:
    """A relay whose reads the test serves, and time that it turns."""

    def __init__(self, clock: ManualClock, recorder: MemoryRecorder) -> None:
        self.clock = clock
        self.recorder = recorder
        self.world = World(clock)
        self.stream = Stream(EPOCH)
        self.wheel = TimerWheel(clock.monotonic())
        self.relay = Relay(hub=self.world.hub, clock=clock, recorder=recorder, wheel=self.wheel)
        self.relay.connect(self.stream)

    @property
    def interest(self) -> Any:
        """What the node knows of the channel."""
        return self.world.hub.interests[CHANNEL]

    @property
    def repairs(self) -> dict[str, int]:
        """How repairs have ended."""
        return {label: n for (name, label), n in self.recorder.counts.items() if name == "repairs"}

    def publish(self, count: int = 1, *, arrives: bool = True, data: bytes = b"") -> None:
        """Keep publications, which arrive or not."""
        for _ in range(count):
            publication = self.stream.append()
            if arrives:
                self.relay.published(CHANNEL, Publication(data, publication.offset, publication.epoch))

    def lose(self, count: int = 1) -> None:
        """Publish what does not arrive."""
        self.publish(count, arrives=False)

    def suspect(self, *channels: Channel) -> None:
        """Rebuild the link."""
        self.relay.suspect(channels or [CHANNEL], "cut")

    def read(self) -> None:
        """Carry out every read that waits, let the answers arrive, and end the turn."""
        self.stream.serve(len(self.stream.asked))
        self.stream.answer(len(self.stream.answers))
        self.world.turns.take_all()

    def begin_anew(self) -> None:
        """Let the stream be another."""
        self.stream.top = Position(0, NEW)
        self.stream.kept.clear()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)
        self.wheel.advance(self.clock.monotonic())

    def listener(self, offset: int = 0, **options: Any) -> Listener:
        """Let one listen from a position on."""
        listener = Listener(self.world)
        listener.listen(at(offset), **options)
        return listener

    def heard(self, listener: Listener) -> list[str]:
        """End the turn, and return what one heard, without the epochs."""
        self.world.turns.take_all()
        return [it.partition(":")[0] for it in listener.heard]
