from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest
from structlog.testing import capture_logs

from gateway.workers.parent import NO_PROCESS, Parent, Program
from gateway.workers.supervision import Patience, Supervision

# What every worker here can do. It ends with 0 on SIGTERM, like a node, and leaves a file when it has said that it is
# up: the parent then hears of that in any case, perhaps after a signal that was sent later.
WORDS = """
import os, signal, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
index, told, parent = map(int, sys.argv[2:])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
def up():
    os.write(told, b"1")
    os.close(told)
    (folder / f"{index}.{os.getpid()}").touch()
def lives(index):
    return len(list(folder.glob(f"{index}.*")))
def until(condition):
    while not condition():
        time.sleep(0.005)
def stop_parent():
    os.kill(parent, signal.SIGTERM)
def stay():
    time.sleep(60)
"""

DEADLINE = 60.0  # seconds; no parent here has so much to do

Make: TypeAlias = Callable[..., Parent]
Logged: TypeAlias = list[tuple[object, ...]]


@pytest.fixture(name="make")
def _make(tmp_path: Path) -> Make:
    """Give a way to make a parent whose workers run some Python."""

    def make(code: str, *, count: int = 2, program: str = sys.executable) -> Parent:
        command = [program, "-I", "-S", "-c", WORDS + code, str(tmp_path)]
        return Parent(Program(command), Supervision(count, Patience(first=0.01, longest=0.02, attempts=3)))

    return make


@contextmanager
def deadline(parent: Parent) -> Iterator[None]:
    """Interrupt a parent that does not end: it has this very thread; and leave nobody behind."""

    def over(_number: int, _frame: object) -> None:
        raise TimeoutError(f"the parent did not end in {DEADLINE:g} s; workers that run: {list(parent.running)}")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, DEADLINE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
        for it in parent.running.values():
            it.process.kill()
            it.process.wait()


def ran(parent: Parent) -> tuple[int, Logged]:
    """Run it to its end; return the exit code, and what it said of whom."""
    with capture_logs() as logged, deadline(parent):
        code = parent.run()
    assert {} == parent.running
    return code, [(it["event"], it.get("worker"), it.get("status")) for it in logged]


def test_a_signal_reaches_all_and_all_are_waited_for(make: Make) -> None:
    """Once both are up the parent is asked to stop: both end well, and so does the parent."""
    code, logged = ran(make("up()\nif index: stop_parent()\nstay()"))
    assert 0 == code
    assert [("worker.up", 0, None), ("worker.up", 1, None)] == [it for it in logged if it[0] == "worker.up"]
    assert 1 == logged.count(("workers.stopping", None, None))
    assert {("worker.ended", 0, 0), ("worker.ended", 1, 0)} == {it for it in logged if it[0] == "worker.ended"}
    assert ("workers.stopped", None, None) == logged[-1]


def test_ctrl_c_is_heard_and_passed_on_as_sigterm(make: Make) -> None:
    """Workers are not in the terminal's group: they would get each Ctrl-C twice."""
    code, logged = ran(
        make("up()\nassert os.getpgid(0) == os.getpid()\nos.kill(parent, signal.SIGINT)\nstay()", count=1)
    )
    assert (0, ("worker.ended", 0, 0)) == (code, logged[-2])


def test_each_further_signal_is_passed_on(make: Make) -> None:
    """A worker that hears nothing is killed by the fourth; that shows in the exit code."""
    deaf = """
heard = []
def hear(*_):
    heard.append(1)
    if len(heard) <= 3: stop_parent()
signal.signal(signal.SIGTERM, hear)
up()
stop_parent()
while True: stay()
"""
    code, logged = ran(make(deaf, count=1))
    assert 137 == code
    assert 4 == logged.count(("workers.stopping", None, None))
    assert ("worker.ended", 0, "SIGKILL") in logged


def test_who_dies_comes_back(make: Make) -> None:
    """However it died, and with the same index; the other one is left alone."""
    code, logged = ran(
        make(
            """
up()
if index == 0:
    until(lambda: lives(1) == 3)
    stop_parent()
    stay()
if lives(1) == 1: os.kill(os.getpid(), signal.SIGKILL)
if lives(1) == 2: sys.exit(9)
stay()
"""
        )
    )
    assert 0 == code
    assert [("worker.lost", 1, "SIGKILL"), ("worker.lost", 1, 9)] == [it for it in logged if it[0] == "worker.lost"]
    assert 3 == logged.count(("worker.up", 1, None))
    assert 1 == logged.count(("worker.up", 0, None))


def test_who_ends_well_is_replaced_at_once(make: Make) -> None:
    """Somebody drained one worker: that is no death, so it has no pause to wait for."""
    parent = make("up()\nif lives(0) > 5: stop_parent(); stay()", count=1)
    parent.supervision.patience = Patience(first=600.0)
    code, logged = ran(parent)
    assert (0, 5) == (code, logged.count(("worker.lost", 0, 0)))


def test_who_cannot_start_ends_all_once(make: Make) -> None:
    """The first one is up, the second one is not to be: the first one is stopped, the code is the second one's."""
    code, logged = ran(make("if index: sys.exit(3)\nup()\nstay()"))
    assert 3 == code
    assert [("worker.up", 0, None), ("worker.failed", 1, 3), ("worker.ended", 0, 0)] == logged[:3]


def test_what_cannot_be_run_is_told(make: Make) -> None:
    """The system gives no process: one line, and no loop."""
    code, logged = ran(make("", program="/nowhere/python"))
    assert (NO_PROCESS, [("worker.unstartable", 0, None), ("workers.stopped", None, None)]) == (code, logged)


def test_the_rest_are_not_started_behind_one_that_cannot_be(make: Make, tmp_path: Path) -> None:
    """The first one is up and the system gives no process for the second: no third one is tried, and all end well."""
    program = tmp_path / "python"
    program.symlink_to(Path(sys.executable).resolve())
    code, logged = ran(make("(folder / 'python').unlink()\nup()\nstay()", count=4, program=str(program)))
    assert NO_PROCESS == code
    expected = [("worker.up", 0, None), ("worker.unstartable", 1, None), ("worker.ended", 0, 0)]
    assert [*expected, ("workers.stopped", None, None)] == logged


def test_a_worker_may_close_its_pipe_without_a_word(make: Make) -> None:
    """It is not up then; the parent does not spin on the end of the pipe, and sees the death that follows."""
    code, logged = ran(make("os.close(told)\ntime.sleep(0.05)\nsys.exit(5)", count=1))
    assert (5, ("worker.failed", 0, 5)) == (code, logged[0])


def test_the_last_word_of_a_dead_worker_counts(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """It came up and died before the parent looked: that is a death, not a start that failed, so it comes back."""
    parent = make("up()\nif lives(0) > 1: stop_parent(); stay()\nsys.exit(5)", count=1)
    wait = Parent._wait

    def wait_long(self: Parent, _heard: int) -> None:
        monkeypatch.setattr(Parent, "_wait", wait)
        os.waitid(os.P_PID, self.running[0].process.pid, os.WEXITED | os.WNOWAIT)

    monkeypatch.setattr(Parent, "_wait", wait_long)
    code, logged = ran(parent)
    assert 0 == code
    lives = [it for it in logged if it[0] in ("worker.up", "worker.lost", "worker.failed")]
    assert [("worker.up", 0, None), ("worker.lost", 0, 5), ("worker.up", 0, None)] == lives
