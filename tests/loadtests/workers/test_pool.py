"""The processes of the generator, as the parent sees them end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine

import pytest

from loadtests.workers.pool import COMPLAINTS, CrashError, Pool

PIPE = asyncio.subprocess.PIPE
Start = Callable[[str], Coroutine[None, None, Pool]]


@pytest.fixture(name="start")
async def _start() -> AsyncIterator[Start]:
    """Run a program in place of a process of the generator."""
    pools: list[Pool] = []

    async def start(program: str) -> Pool:
        command = (sys.executable, "-S", "-c", program)
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        pools.append(Pool([process]))
        return pools[-1]

    yield start
    for it in pools:
        await it.end()


async def test_a_crash_is_told_with_the_last_words(start: Start) -> None:
    """Its exit code, and what it said to nobody: the last lines of its standard error."""
    program = f"import sys\nfor it in range({COMPLAINTS + 5}):\n print('line', it, file=sys.stderr)\nsys.exit(7)"
    with pytest.raises(CrashError) as error:
        await (await start(program)).over()
    first, *rest = str(error.value).splitlines()
    assert "process 0 of the generator ended with 7 in the middle of the run" == first
    assert [f"line {it}" for it in range(5, COMPLAINTS + 5)] == rest


async def test_what_is_no_text_is_told_too(start: Start) -> None:
    """A process that dies may say anything."""
    with pytest.raises(CrashError, match="ended with 0 in the middle of the run\n\ufffdx"):
        await (await start("import os\nos.write(2, b'\\xffx')")).over()
