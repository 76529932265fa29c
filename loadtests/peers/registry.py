"""The peers that the comparison knows, by name; the last is the ceiling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from loadtests.bench.rig import python
from loadtests.peers import tools
from loadtests.peers.contract import CHANNEL, DATA, INFO, Dialect, Peer

SOCKET_IO: Final = Dialect(
    subscribe_at="/socket.io/?EIO=4&transport=websocket",
    publish_at="/socket.io/?EIO=4&transport=websocket",
    subscribe='40{"channel":"' + CHANNEL + '"}',
    subscribed='40{"sid":',
    connect="40",
    connected='40{"sid":',
    publication='42@I["publish",{"channel":"' + CHANNEL + '","data":' + DATA + ',"info":' + INFO + "}]",
    ping="2",
    pong="3",
    ack="43",
)
UVICORN: Final = ("redis", "hiredis", "uvicorn", "uvloop", "httptools", "websockets")
OWN_CLIENTS_FIRST: Final = "tells clients of its own node at once, and other nodes through Redis: so is it made"

STOCK = Peer(
    name="stock-fastapi",
    title="stock FastAPI + redis-py",
    remark="FastAPI's documented `ConnectionManager` behind redis-py pub/sub",
    command=lambda port, redis: python("-m", "loadtests.peers.stock_fastapi", str(port), redis),
    missing=lambda: "",
    versions=lambda: tools.versions_here(("fastapi", *UVICORN)),
)
PYTHON_SOCKETIO = Peer(
    name="python-socketio",
    title="python-socketio",
    remark=f"`AsyncServer` with `AsyncRedisManager` on uvicorn; {OWN_CLIENTS_FIRST}",
    command=lambda port, redis: tools.script("python_socketio.py", port, redis),
    missing=lambda: tools.missing_apart("socketio"),
    versions=lambda: tools.versions_apart(("python-socketio", "python-engineio", *UVICORN)),
    dialect=SOCKET_IO,
)
CHANNELS = Peer(
    name="django-channels",
    title="Django Channels",
    remark="`AsyncWebsocketConsumer` with `RedisPubSubChannelLayer` on uvicorn",
    command=lambda port, redis: tools.script("django_channels.py", port, redis),
    missing=lambda: tools.missing_apart("channels_redis"),
    versions=lambda: tools.versions_apart(("django", "channels", "channels-redis", *UVICORN)),
)
JS_SOCKET_IO = Peer(
    name="socket.io",
    title="Socket.IO",
    remark=f"with `@socket.io/redis-adapter` and bufferutil; {OWN_CLIENTS_FIRST}",
    command=lambda port, redis: ["node", str(tools.NODE / "socket_io.mjs"), str(port), redis],
    missing=lambda: tools.missing_node("socket.io"),
    versions=lambda: tools.versions_node(("socket.io", "@socket.io/redis-adapter", "redis", "bufferutil")),
    dialect=SOCKET_IO,
    environ={"NODE_ENV": "production"},
)
JS_WS = Peer(
    name="ws",
    title="Node ws",
    remark="its documented broadcast, node-redis pub/sub, bufferutil",
    command=lambda port, redis: ["node", str(tools.NODE / "ws.mjs"), str(port), redis],
    missing=lambda: tools.missing_node("ws"),
    versions=lambda: tools.versions_node(("ws", "redis", "bufferutil")),
    environ={"NODE_ENV": "production"},
)
C_LOOP = Peer(
    name="c-loop",
    title="C loop",
    remark="the ceiling: epoll, one `write()` a frame, no Redis, no checks",
    command=lambda port, _: [tools.program("c_loop.c"), str(port)],
    missing=tools.missing_compiler,
    versions=tools.versions_compiler,
    relayed=False,
)
PEERS: Final[Mapping[str, Peer]] = {
    it.name: it for it in (STOCK, PYTHON_SOCKETIO, CHANNELS, JS_SOCKET_IO, JS_WS, C_LOOP)
}
