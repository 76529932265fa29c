"""The chat codec as the registry sees it."""

from __future__ import annotations

from typing import Literal

from gateway.codecs.chat.dialect import ChatDialect
from gateway.codecs.chat.encoding import encode_push
from gateway.protocol.messages import Push
from gateway.protocol.values import Hello


class ChatCodec:
    """Plain JSON objects with a `type`, one a frame."""

    name = "chat"
    subprotocols: tuple[str, ...] = ("chat",)
    text = True
    heartbeat: Literal["application", "frame"] = "frame"

    def dialect(self, hello: Hello) -> ChatDialect:
        """Begin one connection's conversation."""
        return ChatDialect(hello)

    def push(self, push: Push) -> bytes | None:
        """Encode for all plain subscribers at once; None = not shown."""
        return encode_push(push)
