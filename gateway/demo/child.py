"""One program that the demo started: it logs into a file, is waited for, and goes when the demo goes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.demo.programs import Program, clean_environment
from gateway.errors import OperatorError

_LEASH: Final = str(Path(__file__).with_name("leash.py"))
_POLL: Final = 0.05  # seconds between two looks whether it is ready
_READY_WITHIN: Final = 60.0  # seconds; Python starts slowly on a small machine
_STOP_WITHIN: Final = 10.0  # seconds; then it is killed
_TAIL: Final = 12  # lines


class ChildFault(OperatorError):  # noqa: N818 - blame is in the names here, as in gateway.errors
    """A program did not come up or went away by itself; `tail` is the end of its log."""

    def __init__(self, what: str, log: Path) -> None:
        super().__init__(f"{what}; its log is {log}")
        self.tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL:]


@dataclass(slots=True)
class Child:
    """A running program."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    async def until(self, ready: Callable[[], Awaitable[bool]]) -> None:
        """Return once `ready` says so. Raises ChildFault when the program ends, or takes too long."""
        try:
            async with asyncio.timeout(_READY_WITHIN):
                while not await ready():
                    if self.process.returncode is not None:
                        raise self._ended()
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            raise ChildFault(f"{self.name} was not ready within {_READY_WITHIN:.0f} s", self.log) from None

    async def ended(self) -> ChildFault:
        """Wait for an end that nobody asked for. Cancelling is safe."""
        await self.process.wait()
        return self._ended()

    def _ended(self) -> ChildFault:
        code = self.process.returncode
        how = f"exit code {code}" if code is not None and code >= 0 else f"signal {-(code or 0)}"
        return ChildFault(f"{self.name} stopped by itself ({how})", self.log)

    def kill(self) -> None:
        """Kill the program and all that it started. Harmless when it is gone."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    async def stop(self) -> None:
        """Ask the program to stop, and insist after a while."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGTERM)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), _STOP_WITHIN)
        self.kill()
        await self.process.wait()


@asynccontextmanager
async def start(program: Program, logs: Path) -> AsyncIterator[Child]:
    """Run a program in a process group of its own, so that Ctrl-C reaches the demo alone; leaving stops it."""
    log = logs / f"{program.name}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", _LEASH, str(os.getpid()), *program.command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**clean_environment(), **program.env},
            start_new_session=True,
        )
    child = Child(program.name, process, log)
    try:
        yield child
    finally:
        await child.stop()
