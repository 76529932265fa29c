"""How far a drain has come, in one answer or line by line: the stream outlives the ports that the drain closes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import msgspec
from starlette.responses import StreamingResponse

from gateway.api.bodies import DrainResult
from gateway.draining import Drain, Stage

EVERY: Final = 1.0  # seconds between two lines
LINES: Final = "application/x-ndjson"


def standing(drain: Drain) -> DrainResult:
    """Say how far it has come."""
    return DrainResult(drain.remaining, drained=drain.stage is Stage.DRAINED)


def progress(drain: Drain) -> StreamingResponse:
    """Answer with a line now, one each second, and a last one when the drain has ended; `drained` is true there."""

    async def lines() -> AsyncIterator[bytes]:
        async for _ in drain.progress(EVERY):
            yield msgspec.json.encode(standing(drain)) + b"\n"
        yield msgspec.json.encode(standing(drain)) + b"\n"

    return StreamingResponse(lines(), media_type=LINES)
