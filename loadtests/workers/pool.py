"""The processes of the generator, as the parent sees them."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from loadtests.workers.messages import LONGEST, Begin, Failed, Findings, Order, Ready, Tick, Word, line, word

END_SECONDS: Final = 10.0  # for a process that has been told to end
COMPLAINTS: Final = 20  # lines of its standard error that are remembered of each


class RunError(Exception):
    """The run could not be made; the text says what to do."""


class CrashError(Exception):
    """A process of the generator failed; the text is what it said."""


class Pool:
    """Processes that play together; each is heard by one task.

    `ready` is set when all are; `findings` come in the end, by process. `ticks` gets what each says of each second.
    """

    def __init__(self, processes: Sequence[asyncio.subprocess.Process]) -> None:
        self.ready = asyncio.Event()
        self.findings: dict[int, Findings] = {}
        self.ticks: asyncio.Queue[tuple[int, Tick]] = asyncio.Queue()
        self._processes = processes
        self._complaints = [deque[str](maxlen=COMPLAINTS) for _ in processes]
        self._complaining = [asyncio.create_task(self._listen(part, it)) for part, it in enumerate(processes)]
        self._ready: set[int] = set()
        self._hearing = [asyncio.create_task(self._hear(part, it)) for part, it in enumerate(processes)]

    def tell(self, order: Order, part: int | None = None) -> None:
        """Say something to one process, or to all."""
        for process in self._processes if part is None else [self._processes[part]]:
            assert process.stdin is not None
            process.stdin.write(line(order))

    async def over(self) -> None:
        """Wait until all have said what they found. Raises RunError or CrashError, whenever one fails."""
        await _first_error(self._hearing)

    async def end(self) -> None:
        """End all processes, whatever they do."""
        for task in (*self._hearing, *self._complaining):
            task.cancel()
        for process in self._processes:
            if process.returncode is None:
                process.kill()
        tasks = (*self._hearing, *self._complaining)
        await asyncio.gather(*(it.wait() for it in self._processes), *tasks, return_exceptions=True)

    # --- inside

    async def _hear(self, part: int, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while text := await process.stdout.readline():
            said = word(text)
            if isinstance(said, Findings):
                self.findings[part] = said
                await asyncio.wait_for(process.wait(), END_SECONDS)
                return
            self._take(part, said)
        end = await process.wait()
        await asyncio.wait({self._complaining[part]}, timeout=END_SECONDS)
        what = f"process {part} of the generator ended with {end} in the middle of the run"
        raise CrashError("\n".join([what, *self._complaints[part]]))

    async def _listen(self, part: int, process: asyncio.subprocess.Process) -> None:
        """Keep the last of what a process says that nobody foresaw: the interpreter's last words, for one."""
        assert process.stderr is not None
        while text := await process.stderr.readline():
            self._complaints[part].append(text.decode(errors="replace").rstrip())

    def _take(self, part: int, said: Word) -> None:
        if isinstance(said, Tick):
            self.ticks.put_nowait((part, said))
        elif isinstance(said, Ready):
            self._ready.add(part)
            if len(self._ready) == len(self._processes):
                self.ready.set()
        elif isinstance(said, Failed):
            raise (RunError if said.bad else CrashError)(said.text)


@asynccontextmanager
async def pool(begins: Sequence[Begin]) -> AsyncIterator[Pool]:
    """Start a process for each share; they end with the body."""
    processes: list[asyncio.subprocess.Process] = []
    running: Pool | None = None
    try:
        for _ in begins:
            processes.append(await _start())  # noqa: PERF401 - those that were started are to be ended
        running = Pool(processes)
        for part, begin in enumerate(begins):
            running.tell(begin, part)
        yield running
    finally:
        await (running if running is not None else Pool(processes)).end()


async def _start() -> asyncio.subprocess.Process:
    # In a session of its own: Ctrl-C is for the parent, who has them settle and tell what they found.
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "loadtests.workers.worker",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=LONGEST,
        start_new_session=True,
    )


async def _first_error(tasks: Sequence[asyncio.Task[None]]) -> None:
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        task.result()
