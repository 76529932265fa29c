"""What a session knows: the state that the command families read and change."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import Final, TypeGuard

from gateway.disconnects import INVALID_TOKEN, Disconnect, Unsubscribed
from gateway.errors import INTERNAL, PERMISSION_DENIED, TOKEN_EXPIRED, UNKNOWN_CHANNEL, ErrorReply, TokenError
from gateway.protocol.channels import ChannelOptions, Standing, bad_name
from gateway.protocol.effects import Close, Denied, Effect, Outcome, Send
from gateway.protocol.limits import RecentCount, TokenBucket
from gateway.protocol.messages import Reply, Result, SubscribeResult
from gateway.protocol.policy import Policy
from gateway.types import Channel, ClientInfo, ConnectionId, Identity, Position, UserId

TOKEN_ENDED: Final = 109  # codes of a TokenError; any other but these two means that the token is invalid
NO_KEYS: Final = 100
LONGEST_TTL: Final = 365 * 86_400
LOOKED_UP: Final = 4096  # names whose options are remembered; clients make up names, so there is an end to it
LONGEST_REASON: Final = 123  # bytes of a close frame that are left for it


class Phase(Enum):
    """How far the conversation has come; forward only.

    REFUSED: connect was answered with an error. Commands that came with it in one frame are to be dropped, any later
    one ends the connection with 3501, and so does time with 3502.
    """

    CONNECTING = 1
    VERIFYING = 2  # until connect is answered, joins of server-side subscriptions included
    REFUSED = 3
    OPEN = 4
    CLOSED = 5


@dataclass(slots=True)
class Subscription:
    """A standing subscription; `expires_at` is monotonic, inf = never. `who`: the client as this channel sees it."""

    options: ChannelOptions
    who: ClientInfo
    server: bool = False
    positioned: bool = False
    recoverable: bool = False
    watch: bool = False  # the client is shown joins and leaves
    may_publish: bool = False
    expires_at: float = inf
    token: Identity | None = None  # the subscription token by which it stands, if it needed one


@dataclass(slots=True)
class Joining:
    """A subscription that does not stand yet: its token is being checked, or its Join is under way."""

    subscription: Subscription
    since: Position | None = None  # as the client asked, honoured or not
    reject_unrecovered: bool = False
    ttl: int | None = None
    data: bytes | None = None
    ended: Unsubscribed | None = None  # by the server, meanwhile


@dataclass(slots=True)
class Opening:
    """A connect whose server-side subscriptions are being joined; `expires_at` is monotonic."""

    ref: int
    ttl: int | None
    expires_at: float
    results: dict[Channel, SubscribeResult] = field(default_factory=dict)


class State:
    """One connection's conversation. Times are monotonic seconds; inf = never."""

    __slots__ = (
        "bucket",
        "by_token",
        "client",
        "deadline",
        "ends_at",
        "gaps",
        "identity",
        "jitter",
        "joining",
        "malformations",
        "node",
        "notice_at",
        "opening",
        "phase",
        "ping_at",
        "pinged",
        "policy",
        "pong_by",
        "rejoins",
        "subscriptions",
        "subscriptions_end_at",
        "version",
        "who",
    )

    def __init__(
        self, *, client: ConnectionId, policy: Policy, node: str, version: str, now: float, jitter: float
    ) -> None:
        """Begin; `jitter` in [0, 1) spreads the pings of many connections, `node` and `version` are told at connect."""
        self.client = client
        self.policy = policy
        self.node = node
        self.version = version
        self.jitter = jitter
        self.phase = Phase.CONNECTING
        self.identity: Identity | None = None
        self.who = ClientInfo(UserId(""), client)  # as others see the client
        self.subscriptions: dict[Channel, Subscription] = {}  # those that stand
        self.joining: dict[Channel, Joining] = {}  # those that do not yet
        self.by_token = False  # a subscription was made by a token of its own
        self.opening: Opening | None = None
        self.bucket: TokenBucket | None = None
        self.rejoins: TokenBucket | None = None  # from the first leave on
        self.malformations: RecentCount | None = None
        self.gaps: dict[Channel, float] | None = None  # when a position was last found insufficient
        self.ends_at = now + policy.stale_delay  # before it is open: stale; after: expired
        self.notice_at = inf
        self.ping_at = inf
        self.pinged = False  # a ping is out
        self.pong_by = inf
        self.subscriptions_end_at = inf  # the first of them to expire
        self.deadline = self.ends_at  # when to call tick

    def reschedule(self) -> None:
        """Set the deadline anew, after any of the times has changed."""
        self.deadline = min(self.ping_at, self.pong_by, self.ends_at, self.notice_at, self.subscriptions_end_at)

    def end(self, disconnect: Disconnect) -> list[Effect]:
        """Close: nothing follows."""
        self.phase = Phase.CLOSED
        self.deadline = inf
        return [Close(disconnect)]

    def deny(self, ref: int, action: str, channel: Channel | None = None) -> list[Effect]:
        """Refuse with 103, and have it written down."""
        return [self.denial(action, channel), Send(Reply(ref, PERMISSION_DENIED))]

    def expel(self, action: str, channel: Channel | None = None) -> list[Effect]:
        """Close because of a good token that is somebody else's or for something else, and have it written down."""
        return [self.denial(action, channel), *self.end(INVALID_TOKEN)]

    def denial(self, action: str, channel: Channel | None) -> Denied:
        """Return what is to be written down of an attempt."""
        return Denied(action, self.policy.namespaces.name(channel) if channel else "")

    def standing(self, channel: Channel) -> Standing:
        """Return what permissions in a channel depend on."""
        return Standing(self.who.user, channel in self.subscriptions, self.policy.insecure)

    def plan_expiry_of_subscriptions(self) -> None:
        """Find the first subscription to expire."""
        first = min((it.expires_at for it in self.subscriptions.values()), default=inf)
        self.subscriptions_end_at = first + self.policy.expired_sub_delay
        self.reschedule()


def reply(ref: int, result: Result | ErrorReply) -> list[Effect]:
    """Answer a command."""
    return [Send(Reply(ref, result))]


def failure(outcome: Outcome) -> ErrorReply:
    """Return what a client is told when what it asked for failed."""
    match outcome:
        case ErrorReply():
            return outcome
        case TokenError() if outcome.code == TOKEN_ENDED:
            return TOKEN_EXPIRED
        case _:
            return INTERNAL


def fatal(outcome: Outcome) -> Disconnect | None:
    """Return how a failed join ends the connection, None when an error reply will do."""
    return outcome if isinstance(outcome, Disconnect) else None


def channel_options(state: State, channel: Channel) -> ChannelOptions | ErrorReply:
    """Return the options of a channel that a client names in anything but a subscribe."""
    subscription = state.subscriptions.get(channel)
    if subscription is not None:
        return subscription.options
    looked_up = state.policy.looked_up
    options = looked_up.get(channel)
    if options is None:
        options = _look_up(state.policy, channel)
        if len(channel) <= state.policy.channel_max_length:  # or 4096 names could be as large as so many messages
            if len(looked_up) >= LOOKED_UP:
                looked_up.clear()
            looked_up[channel] = options
    return options


def _look_up(policy: Policy, channel: Channel) -> ChannelOptions | ErrorReply:
    options = policy.namespaces.options(channel)
    if options is None:
        return UNKNOWN_CHANNEL
    return bad_name(channel, options, policy.channel_max_length) or options


def is_invalid(outcome: Outcome) -> TypeGuard[TokenError]:
    """Whether a token was refused for good: another try with the same one is pointless."""
    return isinstance(outcome, TokenError) and outcome.code not in {TOKEN_ENDED, NO_KEYS}


def invalid_token(error: TokenError) -> Disconnect:
    """Return the end of a connection whose token is not accepted, with the reason as far as it fits."""
    reason = error.reason.encode(errors="replace")[:LONGEST_REASON].decode(errors="ignore")
    return Disconnect(INVALID_TOKEN.code, reason or INVALID_TOKEN.reason)


def time_left(expires_at: float | None, wall: float) -> int | None:
    """Return the seconds to tell the client until `expires_at` (both wall clock); None = it never comes."""
    return None if expires_at is None else max(1, min(int(expires_at - wall), LONGEST_TTL))


def monotonic_expiry(expires_at: float | None, wall: float, now: float) -> float:
    """Return the monotonic time of `expires_at` when `wall` is `now`."""
    return inf if expires_at is None else now + (expires_at - wall)
