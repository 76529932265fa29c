"""Echo: every data frame comes back unchanged, to check a path through proxies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from gateway.codecs._plain import Asked, PlainDialect, error_message
from gateway.contracts.codec import Codec
from gateway.errors import ErrorReply
from gateway.protocol.messages import Command, Echo, EchoResult, Push, Reply
from gateway.protocol.values import Encoded, Hello
from gateway.types import Channel, Position


class EchoCodec:
    """Frames of any kind and content."""

    name = "echo"
    subprotocols: tuple[str, ...] = ("echo",)
    text = True
    heartbeat: Literal["application", "frame"] = "frame"

    def dialect(self, hello: Hello) -> EchoDialect:
        """Begin one connection's conversation."""
        return EchoDialect(hello)

    def push(self, push: Push) -> None:
        """Return None: only what the client sent is shown to it."""
        del push


class EchoDialect(PlainDialect):
    """A client that gets back what it sends."""

    __slots__ = ()
    personal = False

    def encode(self, message: Reply | Push) -> Encoded:
        """Give the frame back as it came; errors as the other plain protocols do."""
        if not isinstance(message, Reply):
            return Encoded()
        asked = self._answered(message.ref)
        match message.result:
            case EchoResult(payload, text):
                return Encoded((payload,), text=text)
            case ErrorReply() as error:
                return Encoded((error_message(error, asked.request),))
            case _:
                return Encoded()

    def _entry(self) -> tuple[dict[Channel, Position], list[Command]]:
        return {}, []

    def _commands(self, payload: bytes, text: bool) -> Sequence[Command]:
        return (Echo(self._ask(Asked("echo")), payload, text),)


codec: Codec = EchoCodec()
