"""What the bytes of a client amount to, as `wire.py` reads them."""

from __future__ import annotations

from typing import ClassVar, TypeAlias

from gateway.compact import Compact


class Message(Compact):
    """One whole data message; text is valid UTF-8."""

    __slots__ = ("payload", "text")
    __match_args__: ClassVar[tuple[str, ...]] = ("payload", "text")

    def __init__(self, payload: bytes, text: bool) -> None:
        self.payload = payload
        self.text = text


class Answer(Compact):
    """A frame to be written: the answer to a ping."""

    __slots__ = ("frame",)
    __match_args__: ClassVar[tuple[str, ...]] = ("frame",)

    def __init__(self, frame: bytes) -> None:
        self.frame = frame


class Ponged(Compact):
    """A pong frame arrived."""

    __slots__ = ()


class Ended(Compact):
    """The conversation is over; nothing follows. `frame`: what is still to be written, perhaps nothing.

    `by_client`: the client closed, or answered our close; otherwise it broke a rule and `code` is what we say of it.
    """

    __slots__ = ("by_client", "code", "frame")
    __match_args__: ClassVar[tuple[str, ...]] = ("code", "by_client", "frame")

    def __init__(self, code: int, by_client: bool, frame: bytes) -> None:
        self.code = code
        self.by_client = by_client
        self.frame = frame


Event: TypeAlias = Message | Answer | Ponged | Ended
