"""Autobahn's cases, driven by kosoku against an echo application."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from kosoku import FailureError, run_fuzzingclient

from gateway.server import ServerRules, running
from gateway.transports.wire import WebSocketLimits
from tests.support.rawsocket import on_uvloop
from tests.support.recorder import MemoryRecorder
from tests.support.socketapp import Attached, EchoReceiver, Rooms

SIXTEEN_MIB = 16 * 1024 * 1024

REASONS = {
    "7.1.5": "a close frame inside a fragmented message is answered with 1002, as websockets does, not with its echo",
}
"""Cases that fail, each by a choice of ours."""


async def _failures(limits: WebSocketLimits, exclude: list[str]) -> tuple[int, dict[str, str]]:
    """Run the cases; return how many there were, and those that failed with what was expected of them."""
    app = Rooms(Attached(EchoReceiver)).app
    async with running(app, rules=ServerRules(recorder=MemoryRecorder(), websocket=limits)) as url:
        try:
            results = await run_fuzzingclient(urlsplit(url).netloc, exclude_cases=exclude, concurrency=8)
        except FailureError as failure:
            results = failure.results
    return len(results), {case.case_id: case.expectation for case in results if not case.passed}


@on_uvloop
async def test_framing_pings_closing_and_text() -> None:
    """Families 1 to 7 and 10 pass under the default budgets for control frames and fragments, but for REASONS."""
    count, failed = await _failures(WebSocketLimits(message_size=SIXTEEN_MIB), ["9.*", "12.*", "13.*"])

    assert 247 == count
    assert set(REASONS) == set(failed), failed


@pytest.mark.soak
@on_uvloop
async def test_everything() -> None:
    """All families pass, large messages in many fragments and the compression that is never negotiated included."""
    limits = WebSocketLimits(message_size=SIXTEEN_MIB, fragments=SIXTEEN_MIB, control_rate=0.0)
    count, failed = await _failures(limits, [])

    assert 517 == count
    assert set(REASONS) == set(failed), failed
