"""The blobs of the envelope as msgspec reads and writes them: their fields are positions in an array."""

from __future__ import annotations

import msgspec

from gateway.types import ConnectionId, UserId


class PublicationBlob(msgspec.Struct, array_like=True, gc=False):
    """A publication; no `user`: no client published it."""

    data: bytes
    time_ms: int = 0
    user: UserId | None = None
    client: ConnectionId = ConnectionId("")
    conn_info: bytes | None = None
    chan_info: bytes | None = None
    tags: dict[str, str] | None = None


class ClientBlob(msgspec.Struct, array_like=True, gc=False):
    """Who came or went."""

    user: UserId
    client: ConnectionId
    conn_info: bytes | None = None
    chan_info: bytes | None = None
