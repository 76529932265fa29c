"""The parent of workers: starts processes, passes signals on and waits. It decides nothing, and needs little memory."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import structlog

from gateway.workers import UP
from gateway.workers.supervision import Action, Start, Supervision

NO_PROCESS: Final = 71  # the exit status of what could not be started; sysexits.h calls it an OS error

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Program:
    """What a worker runs; its index, the descriptor it tells by and the id of its parent are added to the command."""

    command: Sequence[str]
    descriptors: Sequence[int] = ()  # open in the workers, too


@dataclass(slots=True)
class Running:
    """A process, and the pipe by which it says that it is up; None once it has said so, or has closed it."""

    process: subprocess.Popen[bytes]
    telling: int | None

    def tell(self) -> bool:
        """Whether it has said just now that it is up."""
        said = None if self.telling is None else _read(self.telling)
        if said is None:
            return False
        self.hear_no_more()
        return said == UP

    def hear_no_more(self) -> None:
        """Close the pipe."""
        if self.telling is not None:
            os.close(self.telling)
            self.telling = None


@dataclass(slots=True)
class Parent:
    """Runs a supervision. The processes are in groups of their own: Ctrl-C comes to them through us alone."""

    program: Program
    supervision: Supervision
    running: dict[int, Running] = field(default_factory=dict)

    def run(self) -> int:
        """Return the exit code when all workers are gone for good. In the main thread only."""
        with _heard_signals() as heard:
            self._do(self.supervision.begin())
            while (code := self.supervision.code) is None:
                self._wait(heard)
                for number in _read(heard) or b"":
                    if number != signal.SIGCHLD:
                        log.info("workers.stopping", hurry=self.supervision.stopping)
                        self._do(self.supervision.asked())
                for index, running in list(self.running.items()):
                    self._look(index, running)
                self._do(self.supervision.due(time.monotonic()))
        log.info("workers.stopped", code=code)
        return code

    def _wait(self, heard: int) -> None:
        """Sleep until a signal comes, a worker says something, or the next one is due."""
        poll = select.poll()
        for descriptor in (heard, *(it.telling for it in self.running.values())):
            if descriptor is not None:
                poll.register(descriptor, select.POLLIN)
        due = self.supervision.next_due
        poll.poll(None if due is None else max(0.0, due - time.monotonic()) * 1000.0)

    def _look(self, index: int, running: Running) -> None:
        """See whether a worker came up, and whether it has ended; both may be news."""
        status = running.process.poll()
        if running.tell():
            log.info("worker.up", worker=index, pid=running.process.pid)
            self._do(self.supervision.up(index, time.monotonic()))
        if status is not None:
            running.hear_no_more()
            del self.running[index]
            self._ended(index, running.process.pid, status)

    def _ended(self, index: int, pid: int, status: int) -> None:
        now = time.monotonic()
        asked = self.supervision.stopping
        self._do(self.supervision.ended(index, status, now))
        how = signal.Signals(-status).name if status < 0 else status
        if asked:
            log.info("worker.ended", worker=index, pid=pid, status=how)
        elif self.supervision.stopping:
            log.error("worker.failed", worker=index, pid=pid, status=how)
        else:
            pause = round(self.supervision.workers[index].due - now, 3)
            log.warning("worker.lost", worker=index, pid=pid, status=how, again_in=pause)

    def _do(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, Start):
                if not self.supervision.stopping:
                    self._start(action.worker)
                    continue
                # One before it could not be started, and that was the end of all.
                self._do(self.supervision.ended(action.worker, 0, time.monotonic()))
            elif action.worker in self.running:  # else its start is still ahead, see above
                self.running[action.worker].process.send_signal(action.signal)

    def _start(self, index: int) -> None:
        telling, told = os.pipe2(os.O_NONBLOCK)
        command = [*self.program.command, str(index), str(told), str(os.getpid())]
        kept = (*self.program.descriptors, told)
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=kept, process_group=0)  # noqa: S603 - our own program
        except OSError as error:
            os.close(telling)
            log.error("worker.unstartable", worker=index, why=error.strerror)  # noqa: TRY400 - it is the machine's
            self._do(self.supervision.ended(index, NO_PROCESS, time.monotonic()))
        else:
            self.running[index] = Running(process, telling)
        finally:
            os.close(told)


@contextmanager
def _heard_signals() -> Iterator[int]:
    """Turn signals into bytes of a descriptor: none is lost between two looks, and none interrupts anything."""
    heard, hearing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
    woken = signal.set_wakeup_fd(hearing, warn_on_full_buffer=False)  # first: what is heard before it writes no byte
    before = [signal.signal(number, _heard) for number in numbers]
    try:
        yield heard
    finally:
        for number, action in zip(numbers, before, strict=True):
            signal.signal(number, action)
        signal.set_wakeup_fd(woken)
        os.close(heard)
        os.close(hearing)


def _heard(_number: int, _frame: object) -> None:
    """Leave it at the byte that was written."""


def _read(descriptor: int) -> bytes | None:
    """Return what is there, empty at the end; None when there is nothing yet."""
    try:
        return os.read(descriptor, 4096)
    except BlockingIOError:
        return None
