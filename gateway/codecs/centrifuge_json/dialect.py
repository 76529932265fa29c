"""The Centrifuge conversation of one connection; refs are the client's own, so there is nothing to remember."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.codecs.centrifuge_json.decoding import decode_frame
from gateway.codecs.centrifuge_json.encoding import encode_push, encode_reply
from gateway.contracts.codec import Dialect
from gateway.disconnects import Disconnect
from gateway.protocol.messages import Command, Push, Reply
from gateway.protocol.values import Encoded


class CentrifugeJsonDialect(Dialect):
    """Stateless."""

    __slots__ = ()

    def open(self) -> Sequence[Command]:
        """Return nothing: the first command of the client is its connect."""
        return ()

    def decode(self, payload: bytes, text: bool) -> Sequence[Command]:
        """Turn one data frame into commands. Raises DecodeError."""
        return decode_frame(payload, text)

    def encode(self, message: Reply | Push) -> Encoded:
        """Encode for this client."""
        payload = encode_reply(message) if isinstance(message, Reply) else encode_push(message)
        return Encoded() if payload is None else Encoded((payload,))

    def farewell(self, disconnect: Disconnect) -> Sequence[bytes]:
        """Return nothing: code and reason go in the close frame."""
        del disconnect
        return ()
