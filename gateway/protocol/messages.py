"""Commands, replies and pushes: the vocabulary between dialects and the session; control commands between nodes.

All `data` and info fields are raw JSON (bytes). `ref` is the wire id of a command, or the dialect's own counter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from gateway.errors import ErrorReply
from gateway.types import Channel, ClientInfo, ConnectionId, Position, Publication, UserId

# --- commands: the client asks


@dataclass(slots=True)
class Connect:
    """Identify. `subs` are recovery positions for server-side subscriptions; `personal`: also subscribe to `#user`."""

    ref: int
    token: str | None = None
    ticket: bool = False  # the token was presented as a one-time ticket
    personal: bool = False
    data: bytes | None = None
    name: str = ""
    version: str = ""
    subs: Mapping[Channel, Position] = field(default_factory=dict)


@dataclass(slots=True)
class Subscribe:
    """Listen to a channel; `since` set = recover from there; else `recent` newest publications come with the reply."""

    ref: int
    channel: Channel
    token: str = ""
    since: Position | None = None
    recent: int = 0
    positioned: bool = False
    recoverable: bool = False
    join_leave: bool = False
    reject_unrecovered: bool = False
    kind: int = 0  # 0 stream; other types are answered with 108
    tags_filter: bool = False  # a filter was sent; answered with 107


@dataclass(slots=True)
class Unsubscribe:
    """Stop listening; succeeds also when not subscribed."""

    ref: int
    channel: Channel


@dataclass(slots=True)
class Publish:
    """Publish raw JSON into a channel."""

    ref: int
    channel: Channel
    data: bytes


@dataclass(slots=True)
class Presence:
    """Ask who is in a channel, connection by connection."""

    ref: int
    channel: Channel


@dataclass(slots=True)
class PresenceStats:
    """Ask how many connections and users are in a channel."""

    ref: int
    channel: Channel


@dataclass(slots=True)
class Members:
    """Ask which users are in a channel, each once."""

    ref: int
    channel: Channel


@dataclass(slots=True)
class History:
    """Ask for kept publications; fields as in `HistoryQuery`."""

    ref: int
    channel: Channel
    limit: int = 0
    since: Position | None = None
    reverse: bool = False


@dataclass(slots=True)
class Refresh:
    """Present a new connection token before the old one ends."""

    ref: int
    token: str


@dataclass(slots=True)
class SubRefresh:
    """Present a new subscription token; an empty channel means the one in the token."""

    ref: int
    channel: Channel
    token: str


@dataclass(slots=True)
class Pong:
    """The answer to our ping."""

    ref: int = 0


@dataclass(slots=True)
class Ping:
    """A ping of the client's own (chat)."""

    ref: int


@dataclass(slots=True)
class Rpc:
    """Call a method of the backend (none is configured: 108)."""

    ref: int
    method: str
    data: bytes


@dataclass(slots=True)
class Send:
    """An asynchronous message to the backend, without a reply (none is configured: 3508)."""

    ref: int
    data: bytes


@dataclass(slots=True)
class Message:
    """A private message to all connections of a user; `data` is raw JSON."""

    ref: int
    to_user: UserId
    data: bytes


@dataclass(slots=True)
class Echo:
    """Send this frame back as it came."""

    ref: int
    payload: bytes
    text: bool


Command: TypeAlias = (
    Connect
    | Subscribe
    | Unsubscribe
    | Publish
    | Presence
    | PresenceStats
    | Members
    | History
    | Refresh
    | SubRefresh
    | Pong
    | Ping
    | Rpc
    | Send
    | Message
    | Echo
)

# --- results: what a reply carries when it is not an error


@dataclass(slots=True)
class SubscribeResult:
    """A subscription stands. `publications` are oldest first; `ttl` in seconds, None = does not expire."""

    channel: Channel
    position: Position | None = None  # the top; None on a channel without positions
    positioned: bool = False
    recoverable: bool = False
    was_recovering: bool = False
    recovered: bool = False
    since: Position | None = None  # the client's position, echoed when recovered
    publications: Sequence[Publication] = ()
    ttl: int | None = None
    data: bytes | None = None


@dataclass(slots=True)
class ConnectResult:
    """The connection is open. `ping`, `ttl` in seconds; `ttl` None = does not expire; `ping` 0 = no pings."""

    client: ConnectionId
    user: UserId
    version: str
    node: str = ""
    ttl: int | None = None
    ping: int = 0
    pong: bool = False
    subs: Sequence[SubscribeResult] = ()


@dataclass(slots=True)
class UnsubscribeResult:
    """The subscription is no more."""

    channel: Channel


@dataclass(slots=True)
class PublishResult:
    """The publication was taken by the broker."""


@dataclass(slots=True)
class PresenceResult:
    """Everyone in a channel, by connection."""

    channel: Channel
    clients: Mapping[ConnectionId, ClientInfo]


@dataclass(slots=True)
class PresenceStatsResult:
    """How many are in a channel."""

    channel: Channel
    num_clients: int
    num_users: int


@dataclass(slots=True)
class MembersResult:
    """The users in a channel, sorted, each once."""

    channel: Channel
    users: Sequence[UserId]


@dataclass(slots=True)
class HistoryResult:
    """Kept publications in the order asked for, and the top of the stream."""

    channel: Channel
    publications: Sequence[Publication]
    top: Position


@dataclass(slots=True)
class RefreshResult:
    """The connection lives on; `ttl` in seconds, None = does not expire."""

    client: ConnectionId
    version: str
    ttl: int | None


@dataclass(slots=True)
class SubRefreshResult:
    """The subscription lives on; `ttl` in seconds, None = does not expire."""

    channel: Channel
    ttl: int | None


@dataclass(slots=True)
class PingResult:
    """The answer to the client's own ping."""


@dataclass(slots=True)
class MessageResult:
    """A private message was published; `delivered`: the target had a live connection somewhere."""

    target: UserId
    delivered: bool


@dataclass(slots=True)
class EchoResult:
    """A frame that goes back as it came."""

    payload: bytes
    text: bool


Result: TypeAlias = (
    ConnectResult
    | SubscribeResult
    | UnsubscribeResult
    | PublishResult
    | PresenceResult
    | PresenceStatsResult
    | MembersResult
    | HistoryResult
    | RefreshResult
    | SubRefreshResult
    | PingResult
    | MessageResult
    | EchoResult
)


@dataclass(slots=True)
class Reply:
    """The answer to command `ref`."""

    ref: int
    result: Result | ErrorReply


# --- pushes: we tell


@dataclass(slots=True)
class PublicationPush:
    """A publication in a channel the client listens to."""

    channel: Channel
    publication: Publication


@dataclass(slots=True)
class JoinPush:
    """Somebody came; `first`: this user's first connection in the channel."""

    channel: Channel
    info: ClientInfo
    first: bool
    time_ms: int = 0  # wall clock of the node that shows it


@dataclass(slots=True)
class LeavePush:
    """Somebody went; `last`: this user's last connection in the channel."""

    channel: Channel
    info: ClientInfo
    last: bool
    time_ms: int = 0


@dataclass(slots=True)
class UnsubscribePush:
    """The server ended a subscription; `position`: up to where the client got everything."""

    channel: Channel
    code: int
    reason: str
    position: Position | None = None


@dataclass(slots=True)
class ExpiringPush:
    """The token ends in so many seconds."""

    seconds: int


@dataclass(slots=True)
class PingPush:
    """Are you there? (application heartbeat)."""


Push: TypeAlias = PublicationPush | JoinPush | LeavePush | UnsubscribePush | ExpiringPush | PingPush

# --- between nodes


class DisconnectClients(msgspec.Struct, frozen=True, kw_only=True, tag="disconnect"):
    """Every node closes the connections that match all given fields; `id` makes it idempotent."""

    id: str
    user: str = ""
    client: str = ""
    session_id: str = ""
    whitelist: tuple[str, ...] = ()  # connection ids to spare
    code: int = 3503
    reason: str = "force disconnect"


ControlCommand: TypeAlias = DisconnectClients


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """A question to every node; answers are bytes that only the asker interprets."""

    id: str
    op: str
    payload: bytes = b""
