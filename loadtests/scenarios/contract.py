"""What a scenario is, and what it is given: the same in every process of the generator."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeAlias

from loadtests.kit.profile import Profile
from loadtests.oracle import Ledger, Log

Phase: TypeAlias = Literal["ramp", "warm-up", "measure", "settle"]
Timed: TypeAlias = Literal["connect", "subscribe", "acknowledge", "delivery", "recover"]
Counted: TypeAlias = Literal["published", "acknowledged", "delivered", "errors"]


class RefusedError(Exception):
    """The server answered a command with an error, or none is connected; `code` 0: there was no connection."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code} {message}")
        self.code = code
        self.message = message


class Share(NamedTuple):
    """Which part of the whole a process plays."""

    part: int
    of: int


class Meters(Protocol):
    """What a process counts; clients do it by themselves, so a scenario needs them for its own deeds only.

    Deliveries and acknowledgements count in the figures of the run if the publication was due in the measure phase, in
    those of their second always; what is recorded here counts in the run whenever it comes.
    """

    def took(self, what: Timed, microseconds: int) -> None:
        """Record one latency."""
        ...

    def count(self, what: Counted, number: int = 1) -> None:
        """Count events of this second."""
        ...

    def closed(self, code: int) -> None:
        """A connection ended against the client's will; 1006 without a close frame."""
        ...

    def refused(self, what: str) -> None:
        """A handshake or a command was refused; an HTTP status, or the code of an error."""
        ...

    def remark(self, text: str) -> None:
        """Say what a reader of the report must know; once is enough, repeats are dropped."""
        ...

    def fault(self, text: str) -> None:
        """The server did wrong what no log can show (presence, a client that never came back): the run fails.

        Stands among the offences of the audit, which is then not clean.
        """
        ...

    def figure(self, name: str, value: float) -> None:
        """Report a figure of this scenario alone, its unit in the name; of several values the largest is kept."""
        ...


class Client(Protocol):
    """One Centrifuge client with a token of its own. Cut off, it comes back as an SDK does, with recovery if asked for.

    It meters itself: connect, subscribe, deliveries, acknowledgements, closes, refusals, returns; and it tells its
    logs all that the oracle must know.
    """

    number: int  # of the whole run
    user: str
    id: str  # of its connection, as the server named it in the reply to connect; empty before the first
    closes: Counter[int]  # how often its connection ended against its will, by code; 1006 without a close frame
    member: Callable[[str, str, bool], None] | None  # called with each join (True) and leave push: channel, its id

    @property
    def logs(self) -> Mapping[str, Log]:
        """What it saw, by channel: of those it is subscribed to, or was."""
        ...

    @property
    def connected(self) -> bool:
        """Whether the server has accepted its connect command, and it is still there."""
        ...

    async def open(self) -> None:
        """Connect and subscribe to all its channels; returns when everything stands, trying again as SDKs do.

        After `cut(stay_away=True)` or `leave` this is the return; what it takes is recorded as `recover`.
        """
        ...

    async def subscribe(self, channel: str) -> None:
        """Subscribe, now and after every return. Raises RefusedError."""
        ...

    async def unsubscribe(self, channel: str) -> None:
        """Give a subscription up. Raises RefusedError."""
        ...

    async def leave(self) -> None:
        """Close by its own will, with a close frame; stays away until `open`."""
        ...

    def cut(self, *, stay_away: bool = False) -> None:
        """Drop the connection without a word, as a lost network does; it comes back as SDKs do, or stays away."""
        ...

    def hurry(self) -> None:
        """Read as fast as it comes from now on: a slow client is slow no more. Its deliveries are not timed still."""
        ...

    def publish(self, channel: str, due: int) -> bool:
        """Send a publication that was due then (CLOCK_MONOTONIC, µs); numbered, padded, in the ledger.

        False: it is not connected; counted as refused.
        """
        ...

    async def ask(self, command: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send any command, `{"presence": {"channel": ...}}`; returns its result. Raises RefusedError."""
        ...


class Stage(Protocol):
    """Where a scenario is played: one process of the generator, with its share of everything.

    Phases: `ramp` until every process has called `ramped`, then `warm-up`, `measure`, `settle`. Connections stay open
    until all processes have settled, whenever `play` returns; whoever is still cut off then has time to come back.
    """

    profile: Profile
    share: Share
    rng: random.Random  # seeded by the profile and the share
    ledger: Ledger

    @property
    def meters(self) -> Meters:
        """What is counted here."""
        ...

    @property
    def clients(self) -> Sequence[Client]:
        """All that were made here."""
        ...

    @property
    def phase(self) -> Phase:
        """What is going on now."""
        ...

    def mine(self, total: int) -> range:
        """Return the numbers of 0..total-1 that this process plays; every number belongs to one process."""
        ...

    def channel(self, number: int) -> str:
        """Return the channel of this number, in the namespace of the profile; another run has others."""
        ...

    def client(self, number: int, channels: Sequence[str] = (), *, slow: bool = False) -> Client:
        """Return a new client, not yet open; `number` is used once in the whole run.

        `slow`: reads next to nothing, through a small receive buffer. Its deliveries are audited, not timed.
        """
        ...

    async def crowd(
        self,
        channels_of: Callable[[int], Sequence[str]],
        total: int = 0,
        *,
        first: int = 0,
        slow: Callable[[int], bool] | None = None,
    ) -> list[Client]:
        """Open this process's share of `total` clients (0: as the profile says) over the ramp; returns when all stand.

        They are numbered from `first` on; `channels_of` and `slow` are asked with numbers from 0 on.
        """
        ...

    async def ramped(self) -> None:
        """Say that this process is ready; returns when all are, at the beginning of the warm-up."""
        ...

    async def until(self, phase: Phase) -> None:
        """Wait for a phase; returns at once if it has begun already."""
        ...

    async def at(self, seconds: float) -> None:
        """Wait until so many seconds of the measure phase have passed; the same moment in all processes.

        Ends early when the run does: look at `phase`.
        """
        ...

    def pace(self, rate: float, *, offset: float = 0.0) -> AsyncIterator[int]:
        """Yield when each of `rate` events a second is due (µs of CLOCK_MONOTONIC), from now until the settling.

        Never skips: who comes late finds everything that was due since. `offset`: of a period, for the first.
        """
        ...

    async def speak(
        self, speakers: Sequence[Client], total: int, channel_of: Callable[[Client, int], str], rate: float = 0.0
    ) -> None:
        """Let these clients, of `total` in all processes, publish in turn until the settling.

        `rate` (0: the profile's) is that of all `total` together. `channel_of` is asked with the speaker and the
        number of its publication, 0 for its first.
        """
        ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside `play`; cancelled when the run ends. If it fails, the run does."""
        ...


class Scenario(Protocol):
    """A kind of load. The first line of its docstring is what `list` says about it."""

    name: ClassVar[str]

    async def play(self, stage: Stage) -> None:
        """Play this process's share, from the first connection to the settling.

        A scenario opens its clients, calls `stage.ramped()` once, and does what it does until the phase is `settle`.
        Raises ValueError if the profile cannot be played: its text is for whoever wrote the profile.
        """
        ...
