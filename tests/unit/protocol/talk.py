"""A conversation with a session, and short ways to look at what it wants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from gateway.disconnects import Disconnect
from gateway.errors import ErrorReply
from gateway.protocol.channels import ChannelOptions, Namespaces
from gateway.protocol.effects import Close, Denied, Effect, Join, Joined, Outcome, Send, Verified, Verify
from gateway.protocol.messages import Command, Connect, Push, Reply, Result, Subscribe
from gateway.protocol.policy import Policy
from gateway.protocol.session import Phase, Session
from gateway.types import Channel, ConnectionId, Identity, Position, Publication, UserId

ME = ConnectionId("7c1d6d0e-0000-4000-8000-000000000001")
ALICE = UserId("alice")
ROOM = Channel("chat:lobby")
WALL = 1_800_000_000.0
TOP = Position(7, "abcdefgh")

NAMESPACES = Namespaces(
    without_namespace=ChannelOptions(),
    by_name={
        "chat": ChannelOptions(
            presence=True,
            join_leave=True,
            force_push_join_leave=True,
            history_size=100,
            history_ttl=60.0,
            history_meta_ttl=600.0,
            force_recovery=True,
            allow_subscribe_for_client=True,
            allow_publish_for_subscriber=True,
            allow_history_for_subscriber=True,
            allow_presence_for_subscriber=True,
        ),
        "open": ChannelOptions(
            allow_subscribe_for_client=True,
            allow_subscribe_for_anonymous=True,
            allow_publish_for_client=True,
            allow_presence_for_client=True,
            allow_history_for_client=True,
        ),
        "optional": ChannelOptions(
            presence=True,
            join_leave=True,
            history_size=10,
            history_ttl=60.0,
            allow_positioning=True,
            allow_recovery=True,
            allow_subscribe_for_client=True,
            allow_presence_for_subscriber=True,
        ),
        "bare": ChannelOptions(history_size=10, history_ttl=60.0, allow_subscribe_for_client=True),
        "positions": ChannelOptions(
            history_size=10, history_ttl=60.0, force_positioning=True, allow_subscribe_for_client=True
        ),
        "dialog": ChannelOptions(allow_user_limited_channels=True, allow_subscribe_for_client=True),
        "objects": ChannelOptions(publication_data_format="json_object", allow_publish_for_client=True),
        "numbers": ChannelOptions(channel_regex="^[0-9]+$", allow_subscribe_for_client=True),
        "closed": ChannelOptions(presence=True, history_size=10, history_ttl=60.0),
    },
)

E = TypeVar("E")


def only(effects: Sequence[Effect], kind: type[E]) -> E:
    """Return the one effect there is."""
    [effect] = effects
    assert isinstance(effect, kind)
    return effect


def answer(effects: Sequence[Effect]) -> Result | ErrorReply:
    """Return what the one reply among the effects says."""
    [reply] = [it.message for it in effects if isinstance(it, Send) and isinstance(it.message, Reply)]
    return reply.result


def error(effects: Sequence[Effect]) -> int:
    """Return the code of the one reply, which is an error."""
    result = answer(effects)
    assert isinstance(result, ErrorReply)
    return result.code


def closing(effects: Sequence[Effect]) -> Disconnect:
    """Return how the connection ends, which is all that happens to the client."""
    return only([it for it in effects if not isinstance(it, Denied)], Close).disconnect


def pushed(effects: Sequence[Effect]) -> list[Push]:
    """Return what the client is told unasked."""
    return [it.message for it in effects if isinstance(it, Send) and not isinstance(it.message, Reply)]


def publication(offset: int, epoch: str = TOP.epoch) -> Publication:
    """Return a publication whose data is its offset."""
    return Publication(str(offset).encode(), offset, epoch)


class Talk:
    """A session, a clock that a test turns by hand, and everything that comes before the point of a test."""

    def __init__(self, jitter: float = 0.0, **rules: Any) -> None:
        self.now = 1000.0
        policy = Policy(**{"namespaces": NAMESPACES, **rules})
        self.session = Session(client=ME, policy=policy, node="here", version="9.9", now=self.now, jitter=jitter)

    @property
    def wall(self) -> float:
        """The Unix time that belongs to `now`."""
        return WALL + self.now - 1000.0

    def phase(self) -> Phase:
        """Return the phase; a call, because a type checker does not expect an attribute to change by itself."""
        return self.session.phase

    def say(self, command: Command) -> list[Effect]:
        """Hand over one command."""
        return self.session.receive(command, self.now)

    def resolve(self, effect: Effect, outcome: Outcome) -> list[Effect]:
        """Hand an outcome back."""
        return self.session.resolve(effect, outcome, self.now)

    def tick(self, seconds: float = 0.0) -> list[Effect]:
        """Let time go by, then tick."""
        self.now += seconds
        return self.session.tick(self.now)

    def verify(self, effects: Sequence[Effect], **claims: Any) -> list[Effect]:
        """Let the token of the one Verify be good and say this."""
        identity = Identity(**{"user": ALICE, **claims})
        return self.resolve(only(effects, Verify), Verified(identity, self.wall))

    def connect(self, command: Connect | None = None, **claims: Any) -> list[Effect]:
        """Connect with a good token; returns what is wanted then."""
        return self.verify(self.say(command or Connect(1, token="t")), **claims)

    def join_all(self, effects: Sequence[Effect]) -> list[Effect]:
        """Let every Join succeed; returns what is wanted after the last."""
        for effect in effects:
            assert isinstance(effect, Join)
            effects = self.resolve(effect, Joined(TOP if effect.history else None, [], recovered=False))
        return list(effects)

    def opened(self, **claims: Any) -> Talk:
        """Connect and be open."""
        effects = self.connect(**claims)
        self.join_all([it for it in effects if isinstance(it, Join)])
        return self

    def subscribe(self, channel: str, **asked: Any) -> list[Effect]:
        """Subscribe without a token, successfully."""
        return self.join_all(self.say(Subscribe(2, Channel(channel), **asked)))

    def subscribed(self, *channels: str, **claims: Any) -> Talk:
        """Be open and subscribed."""
        self.opened(**claims)
        for channel in channels:
            self.subscribe(channel)
        return self
