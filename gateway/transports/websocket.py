"""The WebSocket transport under our own server: the route accepts, and gives the socket away.

The handshake itself is ASGI and stands in `handshake.py`, what comes after it in `link.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias, cast

from starlette.websockets import WebSocket

from gateway.contracts.transport import Attach

TAKE_OVER: Final = "gateway.take_over"  # the ASGI extension by which a route gives the socket away
TakeOver: TypeAlias = Callable[[Attach], None]  # its value, to be called once, after the route has accepted


async def serve(websocket: WebSocket, *, subprotocol: str | None, attach: Attach) -> None:
    """Accept, and hand the socket over: when this returns, the transport is attached and the route may end.

    Raises whatever `attach` raises; the client then gets 1011. Cancelling before the return drops the link.
    """
    take_over = cast("TakeOver | None", websocket.scope.get("extensions", {}).get(TAKE_OVER))
    if take_over is None:
        raise RuntimeError("this server has no take-over; use gateway.transports.asgi under other ASGI servers")
    await websocket.accept(subprotocol=subprotocol)
    take_over(attach)
