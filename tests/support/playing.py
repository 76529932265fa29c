"""A stage for scenarios without a server: clients that do as they are told, and time that runs as fast as it can."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from gateway.types import Position
from loadtests.kit.profile import Profile
from loadtests.oracle import Ledger, Log
from loadtests.scenarios.contract import Counted, Phase, RefusedError, Share, Timed

PHASES: Final[tuple[Phase, ...]] = ("ramp", "warm-up", "measure", "settle")
TURNS: Final = 20  # of the loop, between two moments of a fake run
SETTLE: Final = 10.0  # seconds; they take no time in a loop that leaps


class NotedMeters:
    """Remembers what a scenario reports."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.remarks: list[str] = []
        self.figures: dict[str, list[float]] = {}

    def took(self, what: Timed, microseconds: int) -> None:
        """Clients do this."""

    def count(self, what: Counted, number: int = 1) -> None:
        """Clients do this."""

    def closed(self, code: int) -> None:
        """Clients do this."""

    def refused(self, what: str) -> None:
        """Clients do this."""

    def remark(self, text: str) -> None:
        """Keep it."""
        self.remarks.append(text)

    def fault(self, text: str) -> None:
        """Keep it."""
        self.faults.append(text)

    def figure(self, name: str, value: float) -> None:
        """Keep all values."""
        self.figures.setdefault(name, []).append(value)


class Puppet:
    """A client on a channel that delivers at once."""

    def __init__(self, stage: FakeStage, number: int, channels: Sequence[str], *, slow: bool = False) -> None:
        self.number = number
        self.user = f"user-{number}"
        self.id = ""
        self.logs: Mapping[str, Log] = {it: Log(self.user, it, stage.ledger) for it in channels}
        self.closes: Counter[int] = Counter()
        self.member: Callable[[str, str, bool], None] | None = None
        self.slow = slow
        self.hurried = False
        self.comings = 0
        self._stage = stage

    @property
    def connected(self) -> bool:
        """Whether it is here."""
        return bool(self.id) and self in self._stage.here

    async def open(self) -> None:
        """Come, with a new id; what was missed is recovered."""
        assert not self.connected, "who is here does not come back"
        if self.comings and (error := self._stage.barred.get(self.number)):
            raise error
        if self.comings and self.number in self._stage.stuck:
            await asyncio.Event().wait()
        self.comings += 1
        self.id = f"{self.user}/{self.comings}"
        self._stage.enter(self)

    async def subscribe(self, channel: str) -> None:
        """No scenario does it."""
        raise AssertionError(channel)

    async def unsubscribe(self, channel: str) -> None:
        """No scenario does it."""
        raise AssertionError(channel)

    async def leave(self) -> None:
        """Go."""
        self._stage.go(self)

    def cut(self, *, stay_away: bool = False) -> None:
        """Go."""
        assert stay_away, "scenarios decide when somebody comes back"
        self._stage.go(self)

    def hurry(self) -> None:
        """Be slow no more."""
        self.hurried = True

    def publish(self, channel: str, due: int) -> bool:
        """Deliver at once to all who are here."""
        assert due
        self._stage.said.append((self.number, channel))
        self._stage.deliver(channel)
        return self.connected

    async def ask(self, command: Mapping[str, Any]) -> Mapping[str, Any]:
        """Answer the one question that scenarios ask."""
        return self._stage.presence(command["presence"]["channel"])


class FakeStage:
    """One process's share of a run. Phases follow each other when the scenario waits for them."""

    def __init__(self, profile: Profile, share: Share | None = None) -> None:
        self.profile = profile
        self.share = share or Share(0, 1)
        self.rng = random.Random(profile.seed)
        self.meters = NotedMeters()
        self.ledger = Ledger()
        self.clients: list[Puppet] = []
        self.here: set[Puppet] = set()
        self.said: list[tuple[int, str]] = []  # by whom, where
        self.steps = 5  # events of each pace before the run settles
        self.hidden: set[str] = set()  # ids that presence does not show
        self.untold: set[str] = set()  # ids whose joins and leaves nobody hears of
        self.refusing = False  # to say who is present
        self.stuck: set[int] = set()  # who never come back
        self.barred: dict[int, Exception] = {}  # who cannot come back, and why
        self.forgetful = False  # nobody who comes back recovers, and everybody is told so
        self.losing = 0  # publications that a returning client does not get
        self._phase: Phase = "ramp"
        self._settled = asyncio.Event()
        self._pacing = 0
        self._kept: Counter[str] = Counter()  # publications by channel

    # --- what scenarios use

    @property
    def phase(self) -> Phase:
        """What is going on now."""
        return self._phase

    def mine(self, total: int) -> range:
        """Return every so-manieth number."""
        return range(self.share.part, total, self.share.of)

    def channel(self, number: int) -> str:
        """Return a name."""
        return f"c{number}"

    def client(self, number: int, channels: Sequence[str] = (), *, slow: bool = False) -> Puppet:
        """Return a new client."""
        assert number not in {it.number for it in self.clients}, "a number is used once"
        puppet = Puppet(self, number, channels, slow=slow)
        self.clients.append(puppet)
        return puppet

    async def crowd(
        self,
        channels_of: Callable[[int], Sequence[str]],
        total: int = 0,
        *,
        first: int = 0,
        slow: Callable[[int], bool] | None = None,
    ) -> list[Puppet]:
        """Open them all."""
        numbers = self.mine(total or self.profile.connections)
        made = [self.client(first + it, channels_of(it), slow=bool(slow and slow(it))) for it in numbers]
        for it in made:
            await it.open()
        return made

    async def ramped(self) -> None:
        """Go on."""
        assert self._phase == "ramp"
        self._phase = "measure"

    async def until(self, phase: Phase) -> None:
        """Wait for the settling, which comes when all paces have ended."""
        if PHASES.index(phase) > PHASES.index(self._phase):
            await self._settled.wait()

    async def at(self, seconds: float) -> None:
        """Go on soon: whoever comes back at once is here by then."""
        assert 0 <= seconds <= self.profile.duration
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def pace(self, rate: float, *, offset: float = 0.0) -> AsyncIterator[int]:
        """Yield some times; the run settles when the last pace has ended."""
        assert rate > 0
        assert offset >= 0
        self._pacing += 1
        for step in range(1, self.steps + 1):
            yield step
            await asyncio.sleep(0)
        self._pacing -= 1
        if not self._pacing:
            self.settle()

    async def speak(
        self, speakers: Sequence[Puppet], total: int, channel_of: Callable[[Puppet, int], str], rate: float = 0.0
    ) -> None:
        """Let each of them say something, in turn."""
        assert len(speakers) <= total
        turns: Counter[int] = Counter()
        step = 0
        async for due in self.pace(rate or self.profile.rate):
            speaker = speakers[step % len(speakers)]
            step += 1
            speaker.publish(channel_of(speaker, turns[speaker.number]), due)
            turns[speaker.number] += 1

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """No scenario does it."""
        work.close()
        raise AssertionError("spawned")

    # --- what happens

    def settle(self) -> None:
        """End the run."""
        self._phase = "settle"
        self._settled.set()

    def enter(self, puppet: Puppet) -> None:
        """Let somebody come and catch up."""
        self.here.add(puppet)
        for channel, log in puppet.logs.items():
            position = log.position or Position(self._kept[channel], "e")
            missed = range(position.offset + 1, self._kept[channel] + 1 - self.losing)
            again = log.position is not None
            if self.forgetful:
                missed = range(0)
            log.subscribed(
                position, recovered=again and not self.forgetful, asked=again, publications=[(it, it) for it in missed]
            )
            self._tell(channel, puppet, joined=True)

    def go(self, puppet: Puppet) -> None:
        """Let somebody leave."""
        self.here.discard(puppet)
        for channel, log in puppet.logs.items():
            log.away()
            self._tell(channel, puppet, joined=False)

    def deliver(self, channel: str) -> None:
        """Publish in a channel."""
        self._kept[channel] += 1
        for it in self._in(channel):
            it.logs[channel].publication(self._kept[channel], self._kept[channel])

    def presence(self, channel: str) -> Mapping[str, Any]:
        """Return who is there, but for those who are hidden."""
        if self.refusing:
            raise RefusedError(100, "internal server error")
        return {"presence": {it.id: {"user": it.user} for it in self._in(channel) if it.id not in self.hidden}}

    def _in(self, channel: str) -> list[Puppet]:
        return [it for it in self.clients if it in self.here and channel in it.logs]

    def _tell(self, channel: str, who: Puppet, *, joined: bool) -> None:
        for it in self._in(channel):
            if it.member is not None and who.id not in self.untold:
                it.member(channel, who.id, joined)
