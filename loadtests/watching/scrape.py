"""Reads the `/metrics` of the nodes once a second: what the load costs them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import httpx

from loadtests.kit.result import NodeSample
from loadtests.watching.exposition import Reading, between, read

EVERY: Final = 1.0  # seconds
PATIENCE: Final = 5.0  # seconds for an answer: a node under load answers late, and that is no reason to lose a sample


class Watch:
    """What was seen of the nodes so far: `samples` in the order they came, by node then time; `remarks` each once."""

    def __init__(self, urls: Sequence[str], began: float) -> None:
        self.samples: list[NodeSample] = []
        self.remarks: list[str] = []
        self.versions: dict[str, str] = {}  # as the nodes say: gateway, and their python
        self.urls = urls
        self._began = began
        self._last: dict[str, Reading] = {}

    @property
    def nodes(self) -> int:
        """How many could be read at least twice."""
        return len({it.node for it in self.samples})

    def latest(self, url: str) -> NodeSample | None:
        """Return the newest sample of a node."""
        return next((it for it in reversed(self.samples) if it.node == url), None)

    def see(self, url: str, page: str, now: float) -> None:
        """Take what a node answered at `now` (monotonic); the first page is only what the next is compared with."""
        try:
            reading = read(page, now)
        except ValueError as error:
            self.remark(f"{url} is no page of metrics: {error}")
            return
        if reading is None:
            self.remark(f"{url} says nothing of CPU and memory: the server's side of this run is not known")
            return
        before = self._last.get(url)
        self._last[url] = reading
        self._note_versions(reading)
        if before is None:
            return
        if reading.started != before.started:
            self.remark(
                f"{url} is not always the same process: a node started again, or several behind one address; "
                "name the internal port of each with --metrics"
            )
            return
        self.samples.append(between(before, reading, node=url, at=now - self._began))

    def remark(self, text: str) -> None:
        """Keep what a reader must know, once."""
        if text not in self.remarks:
            self.remarks.append(text)

    def _note_versions(self, reading: Reading) -> None:
        for name, version in reading.versions.items():
            known = self.versions.setdefault(name, version)
            if known != version:
                self.remark(f"the nodes differ: {name} {known} and {version}")


@asynccontextmanager
async def watching(
    urls: Sequence[str], *, began: float, every: float = EVERY, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[Watch]:
    """Read these pages while the body runs; `began` (monotonic) is the zero of the samples' `at`.

    Never raises for what a target does: a page that cannot be read is a remark. Each page is read once before the
    body begins, so that the first sample covers its first second.
    """
    watch = Watch(urls, began)
    # Nobody's proxy settings: metrics of a private network must not be asked for through a proxy of the outside.
    async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as http:
        await asyncio.gather(*(_look(http, watch, it, clock) for it in urls))
        tasks = [asyncio.create_task(_keep_looking(http, watch, it, every, clock)) for it in urls]
        try:
            yield watch
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
    if died := [it for it in ends if it is not None and not isinstance(it, asyncio.CancelledError)]:
        raise died[0]


async def _keep_looking(
    http: httpx.AsyncClient, watch: Watch, url: str, every: float, clock: Callable[[], float]
) -> None:
    due = clock() + every
    while True:
        await asyncio.sleep(max(0.0, due - clock()))
        await _look(http, watch, url, clock)
        due = max(due + every, clock())  # what was late is not made up for: two reads at once say nothing more


async def _look(http: httpx.AsyncClient, watch: Watch, url: str, clock: Callable[[], float]) -> None:
    try:
        answer = await http.get(url)
    except httpx.TimeoutException:
        watch.remark(f"{url} did not answer within {PATIENCE:g} s now and then: some samples are missing")
        return
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        watch.remark(f"{url} cannot be read: {str(error) or type(error).__name__}")  # some say nothing themselves
        return
    if answer.status_code != httpx.codes.OK:
        watch.remark(f"{url} cannot be read: it answered {answer.status_code}")
        return
    watch.see(url, answer.text, clock())
