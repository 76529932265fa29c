"""The bytes that travel between nodes and lie in streams: `<version>:<number>:<epoch>:<blob>`.

The head is text so that a Lua script can write it: `1` a publication (number is its offset, 0 without history), `1j`
and `1l` a join and a leave (number 1: the user's first or last connection). The blob is a MessagePack array, built
once in Python and stored as it is.

Compatibility: fields are only ever appended, each with a default. A reader ignores what it does not know and fills in
what an older node did not write. A head with another version belongs to a release that is not compatible.
Measured per publication, encode and decode together: 1.1 us; the same fields in protobuf (upb) 4.0 us.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from gateway.engines.redis.blobs import ClientBlob, PublicationBlob
from gateway.protocol.values import PublishOptions
from gateway.types import ClientInfo, Publication

T = TypeVar("T")

PLAIN: Final = b"1:0::"  # the head of a publication without history
PUBLICATION: Final = b"1"
JOIN: Final = b"1j"
LEAVE: Final = b"1l"


def _shallow(decode: Callable[[bytes], T], blob: bytes) -> T:
    """Decode; what nests so deeply that it would exhaust the stack is not ours either."""
    try:
        return decode(blob)
    except RecursionError:
        raise ValueError("nested too deeply") from None


class Envelope:
    """Packs and unpacks blobs. Unpacking raises ValueError (of which msgspec's DecodeError is one), nothing else."""

    def __init__(self) -> None:
        self._pack = msgspec.msgpack.Encoder().encode
        self._publication = msgspec.msgpack.Decoder(PublicationBlob).decode
        self._client = msgspec.msgpack.Decoder(ClientBlob).decode

    def publication(self, data: bytes, options: PublishOptions) -> bytes:
        """Pack a publication: the fields of a `PublicationBlob`, as a tuple, which costs less to make."""
        info = options.info
        tags = dict(options.tags) if options.tags else None
        if info is None:
            return self._pack((data, options.time_ms, None, "", None, None, tags))
        return self._pack((data, options.time_ms, info.user, info.client, info.conn_info, info.chan_info, tags))

    def read_publication(self, blob: bytes, offset: int, epoch: str) -> Publication:
        """Unpack a publication that stands at this place."""
        it = _shallow(self._publication, blob)
        info = None
        if it.user is not None:
            info = ClientInfo(it.user, it.client, it.conn_info, it.chan_info)
        return Publication(it.data, offset, epoch, info, it.time_ms, tags=it.tags)

    def client(self, who: ClientInfo) -> bytes:
        """Pack a client: the fields of a `ClientBlob`."""
        return self._pack((who.user, who.client, who.conn_info, who.chan_info))

    def read_client(self, blob: bytes) -> ClientInfo:
        """Unpack a client."""
        it = _shallow(self._client, blob)
        return ClientInfo(it.user, it.client, it.conn_info, it.chan_info)
