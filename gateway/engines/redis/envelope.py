"""The bytes that travel between nodes and lie in streams: `<version>:<number>:<epoch>:<blob>`.

The head is text so that a Lua script can write it: `1` a publication (number is its offset, 0 without history), `1j`
and `1l` a join and a leave (number 1: the user's first or last connection). The blob is a MessagePack array, built
once in Python and stored as it is.

Compatibility: fields are only ever appended, each with a default. A reader ignores what it does not know and fills in
what an older node did not write. A head with another version belongs to a release that is not compatible.
Measured per publication, encode and decode together: 1.1 us; the same fields in protobuf (upb) 4.0 us.
"""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.protocol.values import PublishOptions
from gateway.types import ClientInfo, ConnectionId, Publication, UserId

PLAIN: Final = b"1:0::"  # the head of a publication without history
PUBLICATION: Final = b"1"
JOIN: Final = b"1j"
LEAVE: Final = b"1l"


class _Publication(msgspec.Struct, array_like=True, gc=False):
    data: bytes
    time_ms: int = 0
    user: str | None = None  # None: no client published it
    client: str = ""
    conn_info: bytes | None = None
    chan_info: bytes | None = None
    tags: dict[str, str] | None = None


class _Client(msgspec.Struct, array_like=True, gc=False):
    user: str
    client: str
    conn_info: bytes | None = None
    chan_info: bytes | None = None


class Envelope:
    """Packs and unpacks blobs. Unpacking raises ValueError (of which msgspec's DecodeError is one), nothing else."""

    def __init__(self) -> None:
        self._pack = msgspec.msgpack.Encoder().encode
        self._publication = msgspec.msgpack.Decoder(_Publication).decode
        self._client = msgspec.msgpack.Decoder(_Client).decode

    def publication(self, data: bytes, options: PublishOptions) -> bytes:
        """Pack a publication."""
        info = options.info
        tags = dict(options.tags) if options.tags else None
        if info is None:
            return self._pack(_Publication(data, options.time_ms, tags=tags))
        return self._pack(
            _Publication(data, options.time_ms, info.user, info.client, info.conn_info, info.chan_info, tags)
        )

    def read_publication(self, blob: bytes, offset: int, epoch: str) -> Publication:
        """Unpack a publication that stands at this place."""
        it = self._publication(blob)
        info = None
        if it.user is not None:
            info = ClientInfo(UserId(it.user), ConnectionId(it.client), it.conn_info, it.chan_info)
        return Publication(it.data, offset, epoch, info, it.time_ms, it.tags)

    def client(self, who: ClientInfo) -> bytes:
        """Pack a client."""
        return self._pack(_Client(who.user, who.client, who.conn_info, who.chan_info))

    def read_client(self, blob: bytes) -> ClientInfo:
        """Unpack a client."""
        it = self._client(blob)
        return ClientInfo(UserId(it.user), ConnectionId(it.client), it.conn_info, it.chan_info)
