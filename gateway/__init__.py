"""A horizontally scaled realtime gateway: WebSocket connections, fan-out through Redis, presence, recovery."""

__version__ = "0.1.0"
