"""Bodies of the server API, named as in Centrifugo's: requests, and what stands under `result`."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Final

import msgspec

from gateway.errors import BAD_REQUEST, ErrorReply
from gateway.types import Channel, ClientInfo, Position, Publication

LONGEST_REASON: Final = 123  # bytes of a close frame that are left for it
CLOSE_CODES: Final = range(3000, 5000)


class RefusedError(Exception):
    """The call is answered with an error of the one table."""

    def __init__(self, error: ErrorReply) -> None:
        super().__init__(error.message)
        self.error = error


class Payload(msgspec.Struct, kw_only=True):
    """A publication to be: raw JSON in `data`, or JSON in base64 in `b64data`."""

    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    b64data: str = ""
    skip_history: bool = False
    tags: dict[str, str] = {}
    idempotency_key: str = ""
    delta: bool = False
    version: int = 0
    version_epoch: str = ""

    def raw(self) -> bytes:
        """Return the data as JSON on one line. Raises RefusedError."""
        if not self.b64data:
            return one_line(b"" if isinstance(self.data, msgspec.UnsetType) else bytes(self.data))
        try:
            return one_line(base64.b64decode(self.b64data, validate=True))
        except binascii.Error:
            raise RefusedError(BAD_REQUEST.saying("b64data is not base64")) from None


def one_line(data: bytes) -> bytes:
    """Check that this is JSON, and take out line breaks, which separate frames. Raises RefusedError."""
    try:
        data.decode()  # msgspec does not look at the text of what it keeps raw
        checked = msgspec.json.decode(data, type=msgspec.Raw) if data else b""
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        raise RefusedError(BAD_REQUEST.saying("data is not JSON")) from None
    if not checked:
        raise RefusedError(BAD_REQUEST.saying("data is missing"))
    return msgspec.json.format(data, indent=-1) if b"\n" in data or b"\r" in data else data


class PublishRequest(Payload, kw_only=True):
    """Publish to one channel."""

    channel: str = ""


class BroadcastRequest(Payload, kw_only=True):
    """Publish the same to many channels."""

    channels: list[str] = []


class ChannelRequest(msgspec.Struct, kw_only=True):
    """Name a channel."""

    channel: str = ""


class Since(msgspec.Struct, kw_only=True):
    """A position."""

    offset: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0  # as clients may name it
    epoch: str = ""


class HistoryRequest(ChannelRequest, kw_only=True):
    """Read kept publications; limit 0 = only the top, -1 = all."""

    limit: Annotated[int, msgspec.Meta(ge=-1, le=2**31 - 1)] = 0
    since: Since | None = None
    reverse: bool = False

    def position(self) -> Position | None:
        """Return `since` in our own words."""
        return None if self.since is None else Position(self.since.offset, self.since.epoch)


class Closing(msgspec.Struct, kw_only=True):
    """The close code that the clients see."""

    code: int = 3503
    reason: str = "force disconnect"

    def checked(self) -> Closing:
        """Return this one. Raises RefusedError for a code that is not an application's."""
        if self.code not in CLOSE_CODES:
            raise RefusedError(BAD_REQUEST.saying("disconnect.code is 3000 to 4999"))
        return self

    def cut_reason(self) -> str:
        """Return as much of the reason as a close frame has room for."""
        return self.reason.encode()[:LONGEST_REASON].decode(errors="ignore")


class DisconnectRequest(msgspec.Struct, kw_only=True):
    """Close connections of a user; `sid`, our own field, is the session of the tokens: alone, it is revoked, too."""

    user: str = ""
    client: str = ""
    session: str = ""
    sid: str = ""
    whitelist: list[str] = []
    disconnect: Closing | None = None


class InfoRequest(msgspec.Struct):
    """Ask about the nodes."""


class DrainRequest(msgspec.Struct):
    """Empty this node; `wait`: answer line by line until it is empty."""

    wait: bool = False


class DrainResult(msgspec.Struct):
    """How many connections are still to go, and whether all traces of those that went are removed."""

    remaining: int
    drained: bool


class PublishResult(msgspec.Struct, omit_defaults=True):
    """Where the publication stands."""

    offset: int = 0
    epoch: str = ""


class ErrorBody(msgspec.Struct):
    """An error of the one table."""

    code: int
    message: str


class OneResult(msgspec.Struct, omit_defaults=True):
    """One channel's part of a broadcast."""

    result: PublishResult | None = None
    error: ErrorBody | None = None


class BroadcastResult(msgspec.Struct):
    """One entry for each channel, in their order."""

    responses: list[OneResult]


class InfoBody(msgspec.Struct, omit_defaults=True):
    """A client, as others see it."""

    user: str
    client: str
    conn_info: msgspec.Raw | None = None
    chan_info: msgspec.Raw | None = None


class PublicationBody(msgspec.Struct, omit_defaults=True):
    """A kept publication."""

    data: msgspec.Raw
    info: InfoBody | None = None
    offset: int = 0
    tags: dict[str, str] = {}


class HistoryResult(msgspec.Struct):
    """Publications in the order asked for, and the top."""

    publications: list[PublicationBody]
    epoch: str
    offset: int


class PresenceResult(msgspec.Struct):
    """Everyone in a channel, by connection."""

    presence: dict[str, InfoBody]


class PresenceStatsResult(msgspec.Struct):
    """How many are in a channel."""

    num_clients: int
    num_users: int


class NodeBody(msgspec.Struct):
    """One node."""

    uid: str
    name: str
    version: str
    num_clients: int
    num_users: int
    num_subs: int
    num_channels: int
    uptime: int


class InfoResult(msgspec.Struct):
    """All live nodes."""

    nodes: list[NodeBody]


class Empty(msgspec.Struct):
    """It is done."""


def info_body(info: ClientInfo) -> InfoBody:
    """Put a client into words."""
    return InfoBody(
        user=info.user,
        client=info.client,
        conn_info=None if info.conn_info is None else msgspec.Raw(info.conn_info),
        chan_info=None if info.chan_info is None else msgspec.Raw(info.chan_info),
    )


def publication_body(publication: Publication) -> PublicationBody:
    """Put a publication into words."""
    return PublicationBody(
        data=msgspec.Raw(publication.data),
        info=None if publication.info is None else info_body(publication.info),
        offset=publication.offset,
        tags=dict(publication.tags or {}),
    )


def named(channel: str) -> Channel:
    """Return a channel's name. Raises RefusedError without one."""
    if not channel:
        raise RefusedError(BAD_REQUEST.saying("channel is missing"))
    return Channel(channel)
