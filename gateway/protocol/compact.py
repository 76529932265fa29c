"""What each message of a client passes through: command, effect, outcome and reply, as plain classes.

They belong to the vocabulary of `messages`, `effects` and `values`, which name them as their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from gateway.compact import Channel, ClientInfo, Compact, Position, Publication

if TYPE_CHECKING:
    from gateway.errors import ErrorReply
    from gateway.protocol.messages import Command, Push, Result


class Publish(Compact):
    """Publish raw JSON into a channel; `forged`: it names what only the server sets, its sender for one."""

    __slots__ = ("channel", "data", "forged", "ref")
    __match_args__: ClassVar[tuple[str, ...]] = ("ref", "channel", "data", "forged")

    def __init__(self, ref: int, channel: Channel, data: bytes, forged: bool = False) -> None:
        self.ref = ref
        self.channel = channel
        self.data = data
        self.forged = forged


class Reply(Compact):
    """The answer to command `ref`."""

    __slots__ = ("ref", "result")
    __match_args__: ClassVar[tuple[str, ...]] = ("ref", "result")

    def __init__(self, ref: int, result: Result | ErrorReply) -> None:
        self.ref = ref
        self.result = result


class PublicationPush(Compact):
    """A publication in a channel the client listens to."""

    __slots__ = ("channel", "publication")
    __match_args__: ClassVar[tuple[str, ...]] = ("channel", "publication")

    def __init__(self, channel: Channel, publication: Publication) -> None:
        self.channel = channel
        self.publication = publication


class PublishOptions(Compact):
    """How to publish: `history_size` 0 = no history. Times in seconds; `time_ms` is the wall clock of this node."""

    __slots__ = ("history_meta_ttl", "history_size", "history_ttl", "idempotency_key", "info", "tags", "time_ms")
    __match_args__: ClassVar[tuple[str, ...]] = (
        "history_size",
        "history_ttl",
        "history_meta_ttl",
        "idempotency_key",
        "info",
        "tags",
        "time_ms",
    )

    def __init__(
        self,
        history_size: int = 0,
        history_ttl: float = 0.0,
        history_meta_ttl: float = 0.0,
        idempotency_key: str = "",
        info: ClientInfo | None = None,
        *,
        tags: Mapping[str, str] | None = None,
        time_ms: int = 0,
    ) -> None:
        self.history_size = history_size
        self.history_ttl = history_ttl
        self.history_meta_ttl = history_meta_ttl
        self.idempotency_key = idempotency_key
        self.info = info
        self.tags = tags
        self.time_ms = time_ms


class Published(Compact):
    """A publication was taken: its `position` (None without history); `duplicate` = the idempotency key was known."""

    __slots__ = ("duplicate", "position")
    __match_args__: ClassVar[tuple[str, ...]] = ("position", "duplicate")

    def __init__(self, position: Position | None = None, duplicate: bool = False) -> None:
        self.position = position
        self.duplicate = duplicate


class Encoded(Compact):
    """Payloads to send, and commands that the dialect itself gives next; `text` None = as the codec says."""

    __slots__ = ("commands", "payloads", "text")
    __match_args__: ClassVar[tuple[str, ...]] = ("payloads", "commands", "text")

    def __init__(
        self, payloads: Sequence[bytes] = (), commands: Sequence[Command] = (), text: bool | None = None
    ) -> None:
        self.payloads = payloads
        self.commands = commands
        self.text = text


class Send(Compact):
    """Encode and put into the outbox. No outcome."""

    __slots__ = ("message",)
    __match_args__: ClassVar[tuple[str, ...]] = ("message",)

    def __init__(self, message: Reply | Push) -> None:
        self.message = message


class PublishTo(Compact):
    """Publish. Outcome: Published | EngineFault."""

    __slots__ = ("channel", "data", "options", "ref")
    __match_args__: ClassVar[tuple[str, ...]] = ("ref", "channel", "data", "options")

    def __init__(self, ref: int, channel: Channel, data: bytes, options: PublishOptions) -> None:
        self.ref = ref
        self.channel = channel
        self.data = data
        self.options = options
