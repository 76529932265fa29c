"""Effects: what the shell must do for a session. Outcomes: what came of it.

The shell hands each outcome back together with its effect (`session.resolve(effect, outcome, now)`), so the session
keeps no table of what is under way.
"""

from __future__ import annotations

from typing import TypeAlias

from gateway.disconnects import Disconnect
from gateway.errors import EngineFault, ErrorReply, TokenError
from gateway.protocol.compact import PublishTo as PublishTo  # noqa: PLC0414 - a word of this vocabulary
from gateway.protocol.compact import Send as Send  # noqa: PLC0414 - a word of this vocabulary
from gateway.protocol.messages import Command
from gateway.protocol.values import HistoryPage, HistoryQuery, PresenceStats, Published, PublishOptions
from gateway.types import Channel, ClientInfo, ConnectionId, Identity, Position, Publication, Record, UserId


class Heartbeat(Record):
    """Ping the client in the way of its codec. No outcome."""


class Close(Record):
    """End the connection. No outcome: nothing reaches the session afterwards."""

    disconnect: Disconnect


class Denied(Record):
    """Write down that the client tried what it may not do. No outcome; the answer to it is an effect of its own.

    `action`: the command's name; `namespace`: of the channel, `#` for a personal one, empty without one.
    """

    action: str
    namespace: str = ""


class Verify(Record):
    """Check a token for `command`. Outcome: Verified | TokenError | EngineFault (a ticket could not be claimed)."""

    command: Command
    token: str


class ReadHistory(Record):
    """Read history. Outcome: HistoryPage | EngineFault."""

    ref: int
    channel: Channel
    query: HistoryQuery


class ReadPresence(Record):
    """Read who is there; `users_only`: for Members. Outcome: Members | EngineFault."""

    ref: int
    channel: Channel
    users_only: bool


class ReadStats(Record):
    """Count who is there. Outcome: PresenceStats | EngineFault."""

    ref: int
    channel: Channel


class Join(Record):
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


class Live(Record):
    """The reply that covers this subscription is enqueued: what was held back may follow. No outcome."""

    channel: Channel


class Leave(Record):
    """Stop listening: hub at once, broker and presence in the background. No outcome."""

    channel: Channel


class Notify(Record):
    """Publish to `#user` and ask whether anybody is there. Outcome: Notified | EngineFault."""

    ref: int
    user: UserId
    data: bytes
    options: PublishOptions


Effect: TypeAlias = (
    Send
    | Heartbeat
    | Close
    | Denied
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


class Verified(Record):
    """The token is good; `wall` is the wall clock at that moment, to turn `expires_at` into a deadline."""

    identity: Identity
    wall: float


class Members(Record):
    """Everyone in a channel, by connection."""

    clients: dict[ConnectionId, ClientInfo]


class Joined(Record):
    """The subscription stands at `position` (None without positions) with these publications, oldest first."""

    position: Position | None
    publications: list[Publication]
    recovered: bool


class Notified(Record):
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
