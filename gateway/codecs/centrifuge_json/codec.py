"""One for all connections: their dialects, and the frames that they share."""

from __future__ import annotations

from typing import Literal

from gateway.codecs.centrifuge_json.dialect import CentrifugeJsonDialect
from gateway.codecs.centrifuge_json.encoding import encode_push
from gateway.contracts.codec import Codec
from gateway.protocol.messages import Push
from gateway.protocol.values import Hello


class CentrifugeJsonCodec(Codec):
    """Numbered commands and replies, one JSON object a line."""

    name = "centrifuge_json"
    subprotocols: tuple[str, ...] = ("centrifuge-json",)
    text = True
    heartbeat: Literal["application", "frame"] = "application"

    def dialect(self, hello: Hello) -> CentrifugeJsonDialect:
        """Begin one connection's conversation."""
        del hello  # identity and recovery come with the connect command
        return CentrifugeJsonDialect()

    def push(self, push: Push) -> bytes | None:
        """Encode for all plain subscribers at once; None = not shown."""
        return encode_push(push)
