"""Nouns that are made for each message: records as plain classes, which the compiler lays out (decisions/0018)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NewType

ConnectionId = NewType("ConnectionId", str)  # UUIDv4 text, one per live link
UserId = NewType("UserId", str)  # "" = anonymous
Channel = NewType("Channel", str)


class Compact:  # noqa: PLW1641 - records change: none is a key
    """A record that can be compiled: equality and repr by its fields, in the order of its constructor."""

    __slots__ = ()
    __match_args__: ClassVar[tuple[str, ...]] = ()

    def __eq__(self, other: object) -> bool:
        """Compare the fields."""
        return type(other) is type(self) and all(getattr(other, it) == getattr(self, it) for it in self.__match_args__)

    def __repr__(self) -> str:
        """Show the fields."""
        return f"{type(self).__name__}({', '.join(f'{it}={getattr(self, it)!r}' for it in self.__match_args__)})"


class Position(Compact):
    """A place in a channel's stream: `offset` counts from 1 within one `epoch`."""

    __slots__ = ("epoch", "offset")
    __match_args__: ClassVar[tuple[str, ...]] = ("offset", "epoch")

    def __init__(self, offset: int, epoch: str) -> None:
        self.offset = offset
        self.epoch = epoch


class ClientInfo(Compact):
    """Who a client is, as others in a channel may see it; both infos are raw JSON."""

    __slots__ = ("chan_info", "client", "conn_info", "user")
    __match_args__: ClassVar[tuple[str, ...]] = ("user", "client", "conn_info", "chan_info")

    def __init__(
        self, user: UserId, client: ConnectionId, conn_info: bytes | None = None, chan_info: bytes | None = None
    ) -> None:
        self.user = user
        self.client = client
        self.conn_info = conn_info
        self.chan_info = chan_info


class Publication(Compact):
    """One message in a channel. `data` is raw JSON; `offset` is 0 on channels without history."""

    __slots__ = ("data", "epoch", "info", "offset", "tags", "time_ms")
    __match_args__: ClassVar[tuple[str, ...]] = ("data", "offset", "epoch", "info", "time_ms", "tags")

    def __init__(
        self,
        data: bytes,
        offset: int = 0,
        epoch: str = "",
        info: ClientInfo | None = None,
        time_ms: int = 0,
        *,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.data = data
        self.offset = offset
        self.epoch = epoch
        self.info = info  # set only when a client published it
        self.time_ms = time_ms  # wall clock of the publishing node
        self.tags = tags
