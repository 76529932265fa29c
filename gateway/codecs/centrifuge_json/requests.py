"""The commands of the Centrifuge protocol as they stand on the wire; fields that are not listed are ignored."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec

Id: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
Offset: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_NOTHING: Final = msgspec.Raw()


class SubscribeRequest(msgspec.Struct, gc=False):
    """Listen to a channel; also the recovery position of a server-side subscription."""

    channel: str = ""
    token: str = ""
    recover: bool = False
    epoch: str = ""
    offset: Offset = 0
    positioned: bool = False
    recoverable: bool = False
    join_leave: bool = False
    delta: str = ""
    tf: msgspec.Raw = _NOTHING
    flag: int = 0
    type: int = 0


class ConnectRequest(msgspec.Struct):
    """Identify."""

    token: str = ""
    data: msgspec.Raw = _NOTHING
    subs: dict[str, SubscribeRequest] | None = None
    name: str = ""
    version: str = ""


class ChannelRequest(msgspec.Struct, gc=False):
    """Unsubscribe, presence and presence stats."""

    channel: str = ""


class PublishRequest(msgspec.Struct, gc=False):
    """Publish; `type` 1 is a change of a map. What follows is the server's to set: no SDK sends it."""

    channel: str = ""
    data: msgspec.Raw = _NOTHING
    type: int = 0
    info: object = None
    user: object = None
    client: object = None
    sender: object = None
    offset: object = None
    epoch: object = None
    tags: object = None
    time: object = None


class StreamPosition(msgspec.Struct, gc=False):
    """Where to read history from."""

    offset: Offset = 0
    epoch: str = ""


class HistoryRequest(msgspec.Struct):
    """Read history."""

    channel: str = ""
    limit: Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)] = 0
    since: StreamPosition | None = None
    reverse: bool = False


class PingRequest(msgspec.Struct, gc=False):
    """Not for clients: they answer our pings."""


class SendRequest(msgspec.Struct, gc=False):
    """A message to the backend without a reply."""

    data: msgspec.Raw = _NOTHING


class RpcRequest(msgspec.Struct, gc=False):
    """A call of the backend."""

    data: msgspec.Raw = _NOTHING
    method: str = ""


class RefreshRequest(msgspec.Struct, gc=False):
    """A new connection token."""

    token: str = ""


class SubRefreshRequest(msgspec.Struct, gc=False):
    """A new subscription token; `type` 1 and 2 track items of a shared poll."""

    channel: str = ""
    token: str = ""
    type: int = 0


class CommandLine(msgspec.Struct):
    """One command: the first request that is set counts, in this order."""

    id: Id = 0
    connect: ConnectRequest | None = None
    subscribe: SubscribeRequest | None = None
    unsubscribe: ChannelRequest | None = None
    publish: PublishRequest | None = None
    presence: ChannelRequest | None = None
    presence_stats: ChannelRequest | None = None
    history: HistoryRequest | None = None
    ping: PingRequest | None = None
    send: SendRequest | None = None
    rpc: RpcRequest | None = None
    refresh: RefreshRequest | None = None
    sub_refresh: SubRefreshRequest | None = None


COMMAND_LINE: Final = msgspec.json.Decoder(CommandLine)
