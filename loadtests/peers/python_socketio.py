"""python-socketio as its documentation scales it: an `AsyncServer` with an `AsyncRedisManager`, on uvicorn.

python python_socketio.py PORT REDIS_URL, in the peers' environment

Set for speed: WebSocket only (no polling, no upgrades), uvloop and httptools, hiredis, no compression, no access log.
`emit` serves the clients of its own node and then publishes; the callback's answer goes out when Redis has answered.
"""

from __future__ import annotations

import sys
from typing import Any

import socketio
import uvicorn


def create_app(redis_url: str) -> Any:
    """Return the ASGI application."""
    server = socketio.AsyncServer(
        async_mode="asgi",
        client_manager=socketio.AsyncRedisManager(redis_url),
        transports=["websocket"],
        allow_upgrades=False,
    )

    @server.event  # type: ignore[untyped-decorator] # the package is installed apart
    async def connect(sid: str, _: object, auth: dict[str, str] | None) -> None:
        if auth:
            await server.enter_room(sid, auth["channel"])

    @server.event  # type: ignore[untyped-decorator] # the package is installed apart
    async def publish(_: str, publication: dict[str, Any]) -> None:
        await server.emit("publication", publication, room=publication["channel"])

    return socketio.ASGIApp(server)


if __name__ == "__main__":
    # Engine.IO pings by itself, so uvicorn need not.
    uvicorn.run(
        create_app(sys.argv[2]),
        port=int(sys.argv[1]),
        log_level="warning",
        access_log=False,
        ws_ping_interval=None,
        ws_per_message_deflate=False,
    )
