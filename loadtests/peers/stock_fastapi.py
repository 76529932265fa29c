"""The tutorial's way: a FastAPI `ConnectionManager` behind redis-py pub/sub, on uvicorn with its defaults.

What teams copy today, without its bugs: one list of sockets, one reader task, `send_text` to each in turn. A publisher
sends text, gets its acknowledgement once Redis has answered, and everybody else gets the text.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from redis.asyncio import Redis

CHANNEL = "room"


class ConnectionManager:
    """As in FastAPI's documentation."""

    def __init__(self) -> None:
        self.active_connections: list[WebSocket] = []

    async def connect(self, websocket: WebSocket) -> None:
        """Let a subscriber in."""
        await websocket.accept()
        self.active_connections.append(websocket)

    def disconnect(self, websocket: WebSocket) -> None:
        """Let it go."""
        self.active_connections.remove(websocket)

    async def broadcast(self, message: str) -> None:
        """Send to everybody, one after the other."""
        for connection in list(self.active_connections):
            await connection.send_text(message)


async def relay(redis: Redis, manager: ConnectionManager) -> None:
    """Pass on what Redis says."""
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(CHANNEL)
        async for message in pubsub.listen():
            if message["type"] == "message":
                await manager.broadcast(message["data"])


def create_app(redis_url: str) -> FastAPI:
    """Return the application."""
    manager = ConnectionManager()
    redis: Redis = Redis.from_url(redis_url, decode_responses=True)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(relay(redis, manager))
        yield
        task.cancel()
        await redis.aclose()

    app = FastAPI(lifespan=lifespan)

    @app.websocket("/subscribe")
    async def subscribe(websocket: WebSocket) -> None:
        await manager.connect(websocket)
        try:
            while True:
                await websocket.receive_text()
        except WebSocketDisconnect:
            manager.disconnect(websocket)

    @app.websocket("/publish")
    async def publish(websocket: WebSocket) -> None:
        await websocket.accept()
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                text = await websocket.receive_text()
                await redis.publish(CHANNEL, text)
                await websocket.send_text(json.dumps({"id": 0}, separators=(",", ":")))

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(sys.argv[2]), port=int(sys.argv[1]), log_level="warning", ws_ping_interval=None)
