"""What becomes of the workers, as a state machine: events and the time come in, what is to be done comes back. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from signal import Signals
from typing import Final, TypeAlias

KILLED_AT: Final = 4  # asked so often, the node has left behind all it can; what is still there does not hear
MOST_DOUBLINGS: Final = 64  # of a pause, which is at its longest by then; a float ends at 1,024
BY_SIGNAL: Final = 128  # the exit code of who died by a signal, as shells have it


@dataclass(frozen=True, slots=True)
class Start:
    """Start this worker."""

    worker: int


@dataclass(frozen=True, slots=True)
class Send:
    """Send this worker a signal."""

    worker: int
    signal: Signals


Action: TypeAlias = Start | Send


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How soon and how often what died is started again; in seconds."""

    first: float = 0.5  # before the first start after a death; each further one doubles it
    longest: float = 30.0
    steady: float = 60.0  # who was up so long died for a new reason
    attempts: int = 5  # starts in a row that come to nothing, while no other worker is up: that is no accident


class Stage(Enum):
    """How far a worker has come."""

    IDLE = "idle"  # was never started
    STARTING = "starting"
    UP = "up"
    WAITING = "waiting"  # died, and is due later
    GONE = "gone"


@dataclass(slots=True)
class Worker:
    """One place for a process; `since` is when it came up, `due` when it is started again."""

    index: int
    stage: Stage = Stage.IDLE
    proven: bool = False  # it was up once
    since: float = 0.0
    due: float = 0.0
    deaths: int = 0  # in a row

    @property
    def alive(self) -> bool:
        """Whether there is a process."""
        return self.stage in (Stage.STARTING, Stage.UP)


@dataclass(slots=True)
class Supervision:
    """All workers of one parent. The first one starts alone: what is wrong with all of them is said once.

    `now` is in monotonic seconds. Exit statuses are those of `subprocess`: negative = by that signal.
    """

    count: int
    patience: Patience = Patience()
    workers: list[Worker] = field(init=False)
    _asked: int = 0
    _stopping: bool = False
    _code: int = 0

    def __post_init__(self) -> None:
        """Make room for all of them."""
        self.workers = [Worker(index) for index in range(self.count)]

    @property
    def code(self) -> int | None:
        """The exit code of the parent; None while there is something to be done."""
        gone = all(it.stage is Stage.GONE for it in self.workers)
        return self._code if self._stopping and gone else None

    @property
    def stopping(self) -> bool:
        """Whether nothing is started any more."""
        return self._stopping

    @property
    def next_due(self) -> float | None:
        """When `due` has something to do."""
        return min((it.due for it in self.workers if it.stage is Stage.WAITING), default=None)

    def begin(self) -> list[Action]:
        """Start."""
        return [self._start(self.workers[0])]

    def due(self, now: float) -> list[Action]:
        """Start those whose time has come."""
        return [self._start(it) for it in self.workers if it.stage is Stage.WAITING and it.due <= now]

    def up(self, index: int, now: float) -> list[Action]:
        """Take note that all ports of a worker answer; the first one lets the others start."""
        worker = self.workers[index]
        worker.stage, worker.since, worker.proven = Stage.UP, now, True
        if self._stopping:
            return []
        return [self._start(it) for it in self.workers if it.stage is Stage.IDLE]

    def ended(self, index: int, status: int, now: float) -> list[Action]:
        """Take note that a process has ended, or could not be started."""
        worker = self.workers[index]
        was, worker.stage = worker.stage, Stage.GONE
        if self._stopping:
            cut_short = was is Stage.STARTING and status == -Signals.SIGTERM  # it did not listen to signals yet
            self._keep(0 if cut_short else status)
            return []
        asked = was is Stage.UP and status == 0  # somebody wanted this one to go: its place is not his
        worker.deaths = (
            0 if asked or (was is Stage.UP and now - worker.since >= self.patience.steady) else worker.deaths
        )
        worker.deaths += not asked
        if self._hopeless(worker, status):
            return self._give_up(status)
        worker.stage, worker.due = Stage.WAITING, now + self._pause(worker)
        return []

    def asked(self) -> list[Action]:
        """Pass on that the operator wants all to stop; again: to hurry."""
        self._asked += 1
        return list(self._stop(Signals.SIGKILL if self._asked >= KILLED_AT else Signals.SIGTERM))

    def _hopeless(self, worker: Worker, status: int) -> bool:
        if not worker.proven and status:
            return True  # as it was set up it never ran
        return worker.deaths >= self.patience.attempts and not any(it.stage is Stage.UP for it in self.workers)

    def _give_up(self, status: int) -> list[Action]:
        self._keep(status or 1)
        return list(self._stop(Signals.SIGTERM))

    def _pause(self, worker: Worker) -> float:
        if not worker.deaths:
            return 0.0
        doublings = min(worker.deaths - 1, MOST_DOUBLINGS)
        return min(self.patience.first * 2.0**doublings, self.patience.longest)

    def _stop(self, number: Signals) -> Iterator[Action]:
        self._stopping = True
        for worker in self.workers:
            if worker.alive:
                yield Send(worker.index, number)
            else:
                worker.stage = Stage.GONE

    def _keep(self, status: int) -> None:
        """Remember the first thing that went wrong."""
        self._code = self._code or (status if status >= 0 else BY_SIGNAL - status)

    @staticmethod
    def _start(worker: Worker) -> Start:
        worker.stage = Stage.STARTING
        return Start(worker.index)
