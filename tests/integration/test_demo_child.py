from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from gateway.demo import child as child_module
from gateway.demo.child import Child, ChildFault, start
from gateway.demo.plan import Plan
from gateway.demo.ports import HOST
from gateway.demo.programs import Program, check_redis, redis_answers, valkey
from gateway.errors import OperatorError
from tests.support.deadlines import killed_after
from tests.support.ports import free_port

DEADLINE = 20.0
PYTHON = sys.executable


def program(code: str, **env: str) -> Program:
    """Return some Python to run."""
    return Program("thing", [PYTHON, "-c", code], env)


async def yes() -> bool:
    """Be ready."""
    return True


async def no() -> bool:
    """Never be ready."""
    return False


async def first_line(child: Child) -> str:
    """Return the first whole line of a program's log."""

    async def has_line() -> bool:
        return "\n" in child.log.read_text()

    await child.until(has_line)
    return child.log.read_text().splitlines()[0]


def is_gone(pid: int) -> bool:
    """Whether a process ends within the deadline."""
    try:
        psutil.Process(pid).wait(DEADLINE)
    except psutil.NoSuchProcess:
        return True
    return not psutil.pid_exists(pid)


async def test_end_before_ready_tells_code_and_log(tmp_path: Path) -> None:
    """A program that cannot start is reported with its exit code and what it said last."""
    code = "import sys; [print('line', n) for n in range(20)]; sys.exit('it broke')"
    async with start(program(code), tmp_path) as child:
        with pytest.raises(
            ChildFault, match=r"thing stopped by itself \(exit code 1\); its log is .*thing\.log"
        ) as caught:
            await child.until(no)

    assert "it broke" == caught.value.tail[-1]
    assert 12 == len(caught.value.tail)


async def test_end_by_signal_is_told(tmp_path: Path) -> None:
    """A program that somebody killed is reported with the signal."""
    async with start(program("import time; time.sleep(60)"), tmp_path) as child:
        child.kill()

        assert "thing stopped by itself (signal 9)" in str(await child.ended())


async def test_never_ready_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that hangs while starting ends the wait, and is stopped."""
    monkeypatch.setattr(child_module, "_READY_WITHIN", 0.2)
    with pytest.raises(ChildFault, match="thing was not ready within"):
        async with start(program("import time; time.sleep(60)"), tmp_path) as child:
            await child.until(no)

    assert is_gone(child.process.pid)


async def test_program_that_ignores_sigterm_is_killed_with_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopping insists: neither a deaf program nor one that it started in its group is left."""
    monkeypatch.setattr(child_module, "_STOP_WITHIN", 0.2)
    code = (
        "import signal, subprocess; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "inner = subprocess.Popen(['sleep', '60']); print(inner.pid, flush=True); inner.wait()"
    )
    async with start(program(code), tmp_path) as child:
        inner = int(await first_line(child))
        await child.until(yes)

    assert -signal.SIGKILL == child.process.returncode
    assert is_gone(inner)


async def test_settings_of_the_shell_do_not_leak_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo decides all settings of its programs: a variable left over in the shell changes nothing."""
    monkeypatch.setenv("GATEWAY_ENGINE__URL", "memory://")
    monkeypatch.setenv("AUTH_SOMETHING", "x")
    code = "import os; print(sorted(it for it in os.environ if it.startswith(('GATEWAY_', 'AUTH_'))), flush=True)"
    async with start(program(code, GATEWAY_WEB__ENABLED="true"), tmp_path) as child:
        assert "['GATEWAY_WEB__ENABLED']" == await first_line(child)


def test_sigkill_of_the_demo_leaves_nothing(tmp_path: Path) -> None:
    """Even a demo that is killed outright takes its programs with it."""
    thing = ["/bin/sh", "-c", "echo up; exec sleep 60"]
    code = f"""
import asyncio
from pathlib import Path
from gateway.demo.child import start
from gateway.demo.programs import Program
async def main():
    async with start(Program("thing", {thing}, {{}}), Path({str(tmp_path)!r})) as it:
        async def up():
            return it.log.read_text() != ""
        await it.until(up)
        print(it.process.pid, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
    with subprocess.Popen([PYTHON, "-c", code], stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        with killed_after(demo, DEADLINE):
            pid = int(demo.stdout.readline())
        assert psutil.pid_exists(pid)
        os.kill(demo.pid, signal.SIGKILL)
        demo.wait(DEADLINE)

    assert is_gone(pid)


async def test_valkey_comes_up_and_goes(tmp_path: Path) -> None:
    """The Valkey that the demo brings answers where it was told to, and not after it was stopped."""
    port = free_port()
    url = f"redis://{HOST}:{port}/0"
    async with start(valkey(Plan(directory=tmp_path), port), tmp_path) as child:
        await child.until(lambda: redis_answers(url))
        await check_redis(url)

    assert not await redis_answers(url)
    with pytest.raises(OperatorError, match=rf"no Redis at redis://{HOST}:{port}/0 .*leave --redis out"):
        await check_redis(f"redis://me:secret@{HOST}:{port}/0")


async def test_redis_url_that_is_none_is_told_without_its_password() -> None:
    """A misspelt --redis is one line, and the line holds no password."""
    with pytest.raises(OperatorError, match=r"--redis http://host:1: ") as caught:
        await check_redis("http://me:secret@host:1")

    assert "secret" not in str(caught.value)
