"""Commands, replies and pushes: the vocabulary between dialects and the session; control commands between nodes.

All `data` and info fields are raw JSON (bytes). `ref` is the wire id of a command, or the dialect's own counter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import msgspec

from gateway.protocol.compact import PublicationPush as PublicationPush  # noqa: PLC0414 - a word of this vocabulary
from gateway.protocol.compact import Publish as Publish  # noqa: PLC0414 - a word of this vocabulary
from gateway.protocol.compact import Reply as Reply  # noqa: PLC0414 - a word of this vocabulary
from gateway.types import Channel, ClientInfo, ConnectionId, Position, Publication, Record, UserId

# --- commands: the client asks


class Connect(Record):
    """Identify. `subs` are recovery positions for server-side subscriptions; `personal`: also subscribe to `#user`."""

    ref: int
    token: str | None = None
    ticket: bool = False  # the token was presented as a one-time ticket
    personal: bool = False
    data: bytes | None = None
    name: str = ""
    version: str = ""
    subs: Mapping[Channel, Position] = msgspec.field(default_factory=dict)


class Subscribe(Record):
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
    ours: bool = False  # asked by the dialect itself, after a gap: no limit of the client's counts it


class Unsubscribe(Record):
    """Stop listening; succeeds also when not subscribed."""

    ref: int
    channel: Channel


class Presence(Record):
    """Ask who is in a channel, connection by connection."""

    ref: int
    channel: Channel


class PresenceStats(Record):
    """Ask how many connections and users are in a channel."""

    ref: int
    channel: Channel


class Members(Record):
    """Ask which users are in a channel, each once."""

    ref: int
    channel: Channel


class History(Record):
    """Ask for kept publications; fields as in `HistoryQuery`."""

    ref: int
    channel: Channel
    limit: int = 0
    since: Position | None = None
    reverse: bool = False
    ours: bool = False  # asked by the dialect itself, on entry: no limit of the client's counts it


class Refresh(Record):
    """Present a new connection token before the old one ends."""

    ref: int
    token: str


class SubRefresh(Record):
    """Present a new subscription token; an empty channel means the one in the token."""

    ref: int
    channel: Channel
    token: str


class Pong(Record):
    """The answer to our ping."""

    ref: int = 0


class Ping(Record):
    """A ping of the client's own (chat)."""

    ref: int


class Rpc(Record):
    """Call a method of the backend (none is configured: 108)."""

    ref: int
    method: str
    data: bytes


class Send(Record):
    """An asynchronous message to the backend, without a reply (none is configured: 3508)."""

    ref: int
    data: bytes


class Message(Record):
    """A private message to all connections of a user; `data` is raw JSON, `forged` as in `Publish`."""

    ref: int
    to_user: UserId
    data: bytes
    forged: bool = False


class Echo(Record):
    """Send this frame back as it came."""

    ref: int
    payload: bytes
    text: bool


class Nothing(Record):
    """A message that asks for nothing and is not answered (a blank line of chat); it counts as any other does."""

    ref: int = 0


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
    | Nothing
)

# --- results: what a reply carries when it is not an error


class SubscribeResult(Record):
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


class ConnectResult(Record):
    """The connection is open. `ping`, `ttl` in seconds; `ttl` None = does not expire; `ping` 0 = no pings."""

    client: ConnectionId
    user: UserId
    version: str
    node: str = ""
    ttl: int | None = None
    ping: int = 0
    pong: bool = False
    subs: Sequence[SubscribeResult] = ()


class UnsubscribeResult(Record):
    """The subscription is no more."""

    channel: Channel


class PublishResult(Record):
    """The publication was taken by the broker."""


class PresenceResult(Record):
    """Everyone in a channel, by connection."""

    channel: Channel
    clients: Mapping[ConnectionId, ClientInfo]


class PresenceStatsResult(Record):
    """How many are in a channel."""

    channel: Channel
    num_clients: int
    num_users: int


class MembersResult(Record):
    """The users in a channel, sorted, each once."""

    channel: Channel
    users: Sequence[UserId]


class HistoryResult(Record):
    """Kept publications in the order asked for, and the top of the stream."""

    channel: Channel
    publications: Sequence[Publication]
    top: Position


class RefreshResult(Record):
    """The connection lives on; `ttl` in seconds, None = does not expire."""

    client: ConnectionId
    version: str
    ttl: int | None


class SubRefreshResult(Record):
    """The subscription lives on; `ttl` in seconds, None = does not expire."""

    channel: Channel
    ttl: int | None


class PingResult(Record):
    """The answer to the client's own ping."""


class MessageResult(Record):
    """A private message was published; `delivered`: the target had a live connection somewhere."""

    target: UserId
    delivered: bool


class EchoResult(Record):
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


# --- pushes: we tell


class JoinPush(Record):
    """Somebody came; `first`: this user's first connection in the channel."""

    channel: Channel
    info: ClientInfo
    first: bool
    time_ms: int = 0  # wall clock of the node that shows it


class LeavePush(Record):
    """Somebody went; `last`: this user's last connection in the channel."""

    channel: Channel
    info: ClientInfo
    last: bool
    time_ms: int = 0


class UnsubscribePush(Record):
    """The server ended a subscription; `position`: up to where the client got everything."""

    channel: Channel
    code: int
    reason: str
    position: Position | None = None


class ExpiringPush(Record):
    """The token ends in so many seconds."""

    seconds: int


class PingPush(Record):
    """Are you there? (application heartbeat)."""


Push: TypeAlias = PublicationPush | JoinPush | LeavePush | UnsubscribePush | ExpiringPush | PingPush

# --- between nodes


class DisconnectClients(msgspec.Struct, frozen=True, kw_only=True, tag="disconnect"):
    """Every node closes the connections that match all given fields; `id` makes it idempotent."""

    id: str
    user: str = ""
    client: str = ""
    clients: tuple[str, ...] = ()  # more like `client`, which is given, too: a node that knows only that ends one
    session_id: str = ""
    whitelist: tuple[str, ...] = ()  # connection ids to spare
    code: int = 3503
    reason: str = "force disconnect"


class Revoke(msgspec.Struct, frozen=True, kw_only=True, tag="revoke"):
    """Up to `until` every node bars the tokens that fit the one given field, and closes what they have opened."""

    id: str
    until: float  # wall clock
    session_id: str = ""
    token_id: str = ""
    key_id: str = ""
    user: str = ""
    issued_before: int = 0  # of a user: tokens of that second and of earlier ones, and those that do not say
    code: int = 3503
    reason: str = "force disconnect"


ControlCommand: TypeAlias = DisconnectClients | Revoke


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """A question to every node; answers are bytes that only the asker interprets."""

    id: str
    op: str
    payload: bytes = b""
