from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway.disconnects import BAD_REQUEST
from gateway.errors import EngineFault
from gateway.protocol import messages
from gateway.protocol.effects import Effect, Members, Outcome, ReadHistory, ReadPresence, ReadStats
from gateway.protocol.messages import Command, History, HistoryResult
from gateway.protocol.values import HistoryPage, HistoryQuery, PresenceStats
from gateway.types import Channel, ClientInfo, ConnectionId, Position, UserId
from tests.unit.protocol.talk import ROOM, TOP, Talk, answer, closing, error, only, publication

MAKE: list[Callable[[Channel], Command]] = [
    lambda channel: messages.Presence(3, channel),
    lambda channel: messages.PresenceStats(3, channel),
    lambda channel: messages.Members(3, channel),
    lambda channel: messages.History(3, channel),
]
CLIENTS = {
    ConnectionId(client): ClientInfo(UserId(user), ConnectionId(client))
    for client, user in (("1", "bob"), ("2", "alice"), ("3", "bob"), ("4", ""))
}


@pytest.mark.parametrize("make", MAKE)
@pytest.mark.parametrize(
    ("channel", "code"),
    [
        ("nope:x", 102),
        ("open:\n", 107),
        ("chat:other", 103),
        ("closed:x", 103),
        ("#bob", 103),
        ("open:x", 108),
    ],
)
def test_what_may_not_be_read(make: Callable[[Channel], Command], channel: str, code: int) -> None:
    """Unknown, not allowed, or not kept."""
    assert error(Talk().opened().say(make(Channel(channel)))) == code


@pytest.mark.parametrize("make", MAKE)
def test_an_empty_channel_ends_the_connection(make: Callable[[Channel], Command]) -> None:
    """There is nothing such a command could mean."""
    assert closing(Talk().opened().say(make(Channel("")))) is BAD_REQUEST


@pytest.mark.parametrize("make", MAKE)
def test_the_engine_fails(make: Callable[[Channel], Command]) -> None:
    """A temporary error, whatever was asked."""
    talk = Talk().subscribed(ROOM)
    [effect] = talk.say(make(ROOM))
    assert error(talk.resolve(effect, EngineFault("timeout"))) == 100


@pytest.mark.parametrize(
    ("make", "effect", "outcome", "result"),
    [
        (
            MAKE[0],
            ReadPresence(3, ROOM, users_only=False),
            Members(CLIENTS),
            messages.PresenceResult(ROOM, CLIENTS),
        ),
        (
            MAKE[1],
            ReadStats(3, ROOM),
            PresenceStats(4, 3),
            messages.PresenceStatsResult(ROOM, 4, 3),
        ),
        (
            MAKE[2],
            ReadPresence(3, ROOM, users_only=True),
            Members(CLIENTS),
            messages.MembersResult(ROOM, [UserId(""), UserId("alice"), UserId("bob")]),
        ),
    ],
)
def test_presence(
    make: Callable[[Channel], Command], effect: Effect, outcome: Outcome, result: messages.Result
) -> None:
    """Connection by connection, as numbers, or each user once in order."""
    talk = Talk().subscribed(ROOM)
    assert [effect] == talk.say(make(ROOM))
    assert result == answer(talk.resolve(effect, outcome))


@pytest.mark.parametrize(
    ("asked", "query"),
    [
        ({}, HistoryQuery(limit=0)),
        ({"limit": 10}, HistoryQuery(limit=10)),
        ({"limit": -1}, HistoryQuery(limit=300)),
        ({"limit": 301}, HistoryQuery(limit=300)),
        ({"limit": 1, "since": Position(0, "")}, HistoryQuery(limit=1, since=Position(0, ""))),
        ({"limit": 1, "reverse": True}, HistoryQuery(limit=1, reverse=True)),
        (
            {"limit": 1, "since": Position(1, "e"), "reverse": True},
            HistoryQuery(limit=1, since=Position(1, "e"), reverse=True),
        ),
    ],
)
def test_which_history_is_read(asked: dict[str, Any], query: HistoryQuery) -> None:
    """As asked, at most a page; reading keeps the stream's identity alive."""
    talk = Talk().subscribed(ROOM)
    query.meta_ttl = 600.0
    assert ReadHistory(3, ROOM, query) == only(talk.say(History(3, ROOM, **asked)), ReadHistory)


def test_nothing_comes_before_the_first() -> None:
    """Backwards from offset 0 is a mistake of the client's."""
    talk = Talk().subscribed(ROOM)
    assert error(talk.say(History(3, ROOM, limit=1, since=Position(0, ""), reverse=True))) == 107


@pytest.mark.parametrize("since", [None, Position(5, ""), Position(5, TOP.epoch)])
def test_a_page_of_history(since: Position | None) -> None:
    """The publications in the order of the engine, and the top."""
    talk = Talk().subscribed(ROOM)
    effect = only(talk.say(History(3, ROOM, limit=2, since=since)), ReadHistory)
    page = HistoryPage([publication(6), publication(7)], TOP)
    assert HistoryResult(ROOM, page.publications, TOP) == answer(talk.resolve(effect, page))


def test_history_of_another_epoch() -> None:
    """What follows a position of a stream that is gone cannot be told."""
    talk = Talk().subscribed(ROOM)
    effect = only(talk.say(History(3, ROOM, limit=2, since=Position(5, "otherone"))), ReadHistory)
    assert error(talk.resolve(effect, HistoryPage([], TOP))) == 112
