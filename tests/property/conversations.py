"""What a client may say, and what a shell may answer: strategies for conversations with a session."""

from __future__ import annotations

from typing import TypeAlias

from hypothesis import strategies as st

from gateway.disconnects import SHUTDOWN
from gateway.errors import BAD_REQUEST, NOT_AVAILABLE, DecodeError, EngineFault, TokenError
from gateway.protocol import effects as e
from gateway.protocol import messages as m
from gateway.protocol.channels import ChannelOptions, Namespaces
from gateway.protocol.policy import Policy
from gateway.protocol.values import HistoryPage, PresenceStats, Published
from gateway.types import Channel, Grant, Identity, Position, Publication, UserId

USERS = st.sampled_from([UserId(it) for it in ("", "alice", "bob", "a,b")])
GOOD = [Channel(it) for it in ("chat:x", "chat:y", "open:z", "$open:z")]
CHANNELS = st.sampled_from([*GOOD * 6, *(Channel(it) for it in ("#alice", "no:x", "\n", ""))])
GRANTED: list[dict[Channel, Grant]] = [{GOOD[0]: Grant()}, {GOOD[0]: Grant(), GOOD[2]: Grant()}]
POSITIONS = st.builds(Position, st.integers(0, 9), st.sampled_from(["", "_", "abcdefgh"]))
SINCE = st.none() | POSITIONS
TOKENS = st.sampled_from(["t", "t", "t", ""])
OFTEN = st.sampled_from([True] * 7 + [False])  # mostly true, so that conversations get somewhere
DATA = st.sampled_from([b"", b"{}", b"[1]"])
GRANTS = st.builds(
    Grant, info=st.none() | DATA, override=st.dictionaries(st.sampled_from(["presence", "x"]), st.booleans())
)

POLICIES = st.builds(
    Policy,
    namespaces=st.just(
        Namespaces(
            by_name={
                "chat": ChannelOptions(
                    presence=True,
                    history_size=9,
                    history_ttl=9.0,
                    force_recovery=True,
                    allow_subscribe_for_client=True,
                    allow_publish_for_subscriber=True,
                    allow_history_for_subscriber=True,
                    allow_presence_for_subscriber=True,
                ),
                "open": ChannelOptions(allow_subscribe_for_client=True, allow_publish_for_client=True),
            }
        )
    ),
    insecure=st.booleans(),
    personal=st.booleans(),
    private_messages=st.booleans(),
    close_on_refusal=st.booleans(),
    show_ping=st.booleans(),
    channel_limit=st.integers(3, 5),
    command_rate=st.sampled_from([0.0, 2.0]),
    command_burst=st.just(5.0),
    overload_grace=st.just(1.0),
    error_burst=st.just(4),
    pong_timeout=st.sampled_from([0.0, 8.0]),
    expiring_notice=st.sampled_from([0.0, 60.0]),
    gap_period=st.sampled_from([0.0, 10.0]),
)

CONNECTS = st.builds(
    m.Connect,
    st.just(0),
    token=st.none() | TOKENS,
    ticket=st.booleans(),
    personal=st.booleans(),
    subs=st.dictionaries(CHANNELS, POSITIONS, max_size=2),
)
SUBSCRIBES = st.builds(
    m.Subscribe,
    st.just(0),
    CHANNELS,
    token=st.sampled_from(["", "", "t"]),
    since=SINCE,
    recent=st.integers(0, 500),
    reject_unrecovered=st.booleans(),
    kind=st.sampled_from([0, 0, 0, 1]),
)
COMMANDS = st.one_of(
    st.builds(m.Publish, st.just(0), CHANNELS, DATA),
    st.builds(m.SubRefresh, st.just(0), CHANNELS, TOKENS),
    st.builds(m.Refresh, st.just(0), TOKENS),
    st.builds(m.Unsubscribe, st.just(0), CHANNELS),
    st.builds(m.Presence, st.just(0), CHANNELS),
    st.builds(m.PresenceStats, st.just(0), CHANNELS),
    st.builds(m.Members, st.just(0), CHANNELS),
    st.builds(m.History, st.just(0), CHANNELS, st.integers(-2, 500), SINCE, st.booleans()),
    st.builds(m.Ping, st.just(0)),
    st.builds(m.Rpc, st.just(0), st.just("method"), DATA),
    st.builds(m.Message, st.just(0), USERS, DATA),
    st.builds(m.Echo, st.just(0), DATA, st.booleans()),
)
ODD: st.SearchStrategy[m.Command | DecodeError] = st.sampled_from(
    [m.Pong(), m.Send(0, b"{}"), DecodeError(BAD_REQUEST), DecodeError(BAD_REQUEST)]
)
FAULTS: st.SearchStrategy[e.Outcome] = st.one_of(
    st.builds(EngineFault, st.sampled_from(["down", "timeout", "lost"])),
    st.builds(TokenError, st.sampled_from([3500, 109, 100]), st.just("reason")),
    st.just(NOT_AVAILABLE),
    st.just(SHUTDOWN),
)
PUBLICATIONS = st.lists(st.builds(Publication, DATA, st.integers(1, 9)), max_size=2)
Slow: TypeAlias = (
    e.Verify | e.PublishTo | e.ReadHistory | e.ReadPresence | e.ReadStats | e.Join | e.Notify
)  # what has an outcome


def tokens(command: m.Command, wall: float, *, fit: bool) -> st.SearchStrategy[e.Outcome]:
    """A good token; it fits the command, or is for something else."""
    channel = getattr(command, "channel", None)
    return st.builds(
        e.Verified,
        st.builds(
            Identity,
            user=st.just(UserId("alice")) if fit else USERS,
            expires_at=st.none() | st.floats(wall + 1.0 if fit else wall - 50.0, wall + 200.0),
            grants=st.sampled_from(GRANTED) if fit else st.dictionaries(CHANNELS, GRANTS, max_size=2),
            channel=st.just(channel) if fit else st.none() | CHANNELS,
            ticket=st.just(getattr(command, "ticket", False)) if fit else st.booleans(),
        ),
        st.just(wall),
    )


def success(effect: Slow, wall: float) -> st.SearchStrategy[e.Outcome]:
    """What the shell answers when all goes well."""
    match effect:
        case e.Verify():
            return OFTEN.flatmap(lambda fit: tokens(effect.command, wall, fit=fit))
        case e.PublishTo():
            return st.builds(Published, st.none() | POSITIONS)
        case e.ReadHistory():
            return st.builds(HistoryPage, PUBLICATIONS, st.builds(Position, st.integers(0, 9), st.just("abcdefgh")))
        case e.ReadPresence():
            return st.just(e.Members({}))
        case e.ReadStats():
            return st.just(PresenceStats(0, 0))
        case e.Join():
            return st.builds(e.Joined, st.none() | POSITIONS, PUBLICATIONS, st.booleans())
        case e.Notify():
            return st.builds(e.Notified, st.booleans())
