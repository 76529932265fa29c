"""The bounds of an application's end, as its server awaits it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs

from gateway.lifespan import END, Lifespan
from gateway.stopping import GIVE_WAY, UNWIND
from tests.support.deadlines import PATIENCE


class Application:
    """Starts when it may, and does at its end what the test says."""

    def __init__(self, *, starts: bool = True, clings: bool = False, raises: bool = False) -> None:
        self.released = asyncio.Event()
        self.entered = asyncio.Event()
        self.cancelled = 0
        self._starts, self._clings, self._raises = starts, clings, raises

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        await receive()
        self.entered.set()
        if self._starts:
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await self.hang()

    async def hang(self) -> None:
        """Wait to be released or cancelled, or cling."""
        while not self.released.is_set():
            try:
                await self.released.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                if self._raises:
                    raise LookupError("on purpose") from None
                if not self._clings:
                    raise


@pytest.fixture(name="_hurried")
def _hurried_fixture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.lifespan.END", 0.01)


async def _shut(application: Application) -> list[Any]:
    """Start it, end it, and return what was logged; by then nothing of it is left."""
    lifespan = Lifespan(application)
    await lifespan.startup()
    try:
        with capture_logs() as logged:
            async with asyncio.timeout(PATIENCE):
                await lifespan.shutdown()
    finally:
        application.released.set()
    return logged


@pytest.mark.usefixtures("_hurried")
async def test_an_end_that_hangs_is_cancelled_and_said() -> None:
    """One line, with the place."""
    application = Application()
    (line,) = await _shut(application)
    assert ("lifespan.hangs", "error", 0.01) == (line["event"], line["log_level"], line["seconds"])
    assert any("Application.hang (" in place for place in line["at"])
    assert 1 == application.cancelled


@pytest.mark.usefixtures("_hurried")
async def test_an_end_that_clings_is_left_behind() -> None:
    """What cannot be cancelled is waited for no longer."""
    application = Application(clings=True)
    logged = await _shut(application)
    assert ["lifespan.hangs"] == [line["event"] for line in logged]
    assert 1 == application.cancelled


@pytest.mark.usefixtures("_hurried")
async def test_what_a_cancelled_end_raises_is_logged() -> None:
    """It may be the reason why it hung."""
    logged = await _shut(Application(raises=True))
    assert ["lifespan.hangs", "lifespan.failed"] == [line["event"] for line in logged]
    assert "on purpose" == str(logged[1]["exc_info"])


async def test_an_orderly_end_is_not_cut_short() -> None:
    """Nobody cancels who ends in time, and nothing is said."""
    application = Application()
    application.released.set()
    logged = await _shut(application)
    assert ([], 0) == (logged, application.cancelled)


async def test_who_will_not_wait_cancels_the_end() -> None:
    """A third signal does not wait the ten seconds."""
    application = Application()
    lifespan = Lifespan(application)
    await lifespan.startup()
    shutting = asyncio.create_task(lifespan.shutdown())
    await asyncio.sleep(0)
    shutting.cancel()
    async with asyncio.timeout(END / 2):
        with pytest.raises(asyncio.CancelledError):
            await shutting
    assert 1 == application.cancelled


@pytest.mark.usefixtures("_hurried")
async def test_a_start_that_clings_is_left_behind() -> None:
    """Who is asked to stop meanwhile cancels it twice, and goes."""
    application = Application(starts=False, clings=True)
    starting = asyncio.create_task(Lifespan(application).startup())
    await application.entered.wait()
    starting.cancel()
    try:
        with capture_logs() as logged:
            await asyncio.wait((starting,), timeout=PATIENCE)
    finally:
        application.released.set()
    assert starting.cancelled()
    assert ["lifespan.hangs"] == [line["event"] for line in logged]
    assert 2 == application.cancelled


def test_the_bounds_fit_into_each_other() -> None:
    """Who cancels a start waits for longer than the start does for its application."""
    assert END + GIVE_WAY < UNWIND
