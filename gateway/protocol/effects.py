"""Effects: what the shell must do for a session. Outcomes: what came of it.

The shell hands each outcome back together with its effect (`session.resolve(effect, outcome, now)`), so the session
keeps no table of what is under way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from gateway.disconnects import Disconnect
from gateway.errors import EngineFault, ErrorReply, TokenError
from gateway.protocol.messages import Command, Push, Reply
from gateway.protocol.values import HistoryPage, HistoryQuery, PresenceStats, Published, PublishOptions
from gateway.types import Channel, ClientInfo, ConnectionId, Identity, Position, Publication, UserId


@dataclass(slots=True)
class Send:
    """Encode and put into the outbox. No outcome."""

    message: Reply | Push


@dataclass(slots=True)
class Heartbeat:
    """Ping the client in the way of its codec. No outcome."""


@dataclass(slots=True)
class Close:
    """End the connection. No outcome: nothing reaches the session afterwards."""

    disconnect: Disconnect


@dataclass(slots=True)
class Verify:
    """Check a token for `command`. Outcome: Verified | TokenError | EngineFault (a ticket could not be claimed)."""

    command: Command
    token: str


@dataclass(slots=True)
class PublishTo:
    """Publish. Outcome: Published | EngineFault."""

    ref: int
    channel: Channel
    data: bytes
    options: PublishOptions


@dataclass(slots=True)
class ReadHistory:
    """Read history. Outcome: HistoryPage | EngineFault."""

    ref: int
    channel: Channel
    query: HistoryQuery


@dataclass(slots=True)
class ReadPresence:
    """Read who is there; `users_only`: for Members. Outcome: Members | EngineFault."""

    ref: int
    channel: Channel
    users_only: bool


@dataclass(slots=True)
class ReadStats:
    """Count who is there. Outcome: PresenceStats | EngineFault."""

    ref: int
    channel: Channel


@dataclass(slots=True)
class Join:
    """Subscribe (`gateway/joining.py`). Outcome: Joined | EngineFault | ErrorReply | Disconnect.

    `positioned`: keep a position. `since` set: recover. `recent`: that many newest publications when not recovered.
    `server`: subscribed at connect, by token or by ourselves, not by a Subscribe command.
    """

    ref: int
    channel: Channel
    who: ClientInfo
    server: bool = False
    positioned: bool = False
    presence: bool = False
    join_leave: bool = False  # the channel announces joins and leaves
    watch: bool = False  # this client wants to see them
    since: Position | None = None
    recent: int = 0
    history: bool = False  # the channel keeps history
    history_meta_ttl: float = 0.0
    limit: int = 300  # of publications recovered


@dataclass(slots=True)
class Live:
    """The reply that covers this subscription is enqueued: what was held back may follow. No outcome."""

    channel: Channel


@dataclass(slots=True)
class Leave:
    """Stop listening: hub at once, broker and presence in the background. No outcome."""

    channel: Channel


@dataclass(slots=True)
class Notify:
    """Publish to `#user` and ask whether anybody is there. Outcome: Notified | EngineFault."""

    ref: int
    user: UserId
    data: bytes
    options: PublishOptions


Effect: TypeAlias = (
    Send
    | Heartbeat
    | Close
    | Verify
    | PublishTo
    | ReadHistory
    | ReadPresence
    | ReadStats
    | Join
    | Live
    | Leave
    | Notify
)


@dataclass(slots=True)
class Verified:
    """The token is good; `wall` is the wall clock at that moment, to turn `expires_at` into a deadline."""

    identity: Identity
    wall: float


@dataclass(slots=True)
class Members:
    """Everyone in a channel, by connection."""

    clients: dict[ConnectionId, ClientInfo]


@dataclass(slots=True)
class Joined:
    """The subscription stands at `position` (None without positions) with these publications, oldest first."""

    position: Position | None
    publications: list[Publication]
    recovered: bool


@dataclass(slots=True)
class Notified:
    """The private message was published; somebody was there or not."""

    delivered: bool


Outcome: TypeAlias = (
    Verified
    | TokenError
    | Published
    | HistoryPage
    | Members
    | PresenceStats
    | Joined
    | Notified
    | EngineFault
    | ErrorReply
    | Disconnect
)
