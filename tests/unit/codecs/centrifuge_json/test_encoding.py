"""What an SDK is sent: sections 1.2, 2, 3, 4, 7.1 and 11 of the protocol page."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.codecs.centrifuge_json import codec
from gateway.disconnects import SHUTDOWN, UNSUBSCRIBED_EXPIRED, UNSUBSCRIBED_INSUFFICIENT
from gateway.errors import ERRORS, ErrorReply
from gateway.protocol.messages import (
    ConnectResult,
    EchoResult,
    ExpiringPush,
    HistoryResult,
    JoinPush,
    LeavePush,
    MembersResult,
    MessageResult,
    PingPush,
    PingResult,
    PresenceResult,
    PresenceStatsResult,
    PublicationPush,
    PublishResult,
    Push,
    RefreshResult,
    Reply,
    Result,
    SubRefreshResult,
    SubscribeResult,
    UnsubscribePush,
    UnsubscribeResult,
)
from gateway.types import Channel, ClientInfo, ConnectionId, Position, Publication, UserId
from tests.support.codecs import hello, shown

X = Channel("x")
ME = ConnectionId("c1")
ALICE = ClientInfo(UserId("alice"), ME)
TOP = Position(9, "abc")
DIALECT = codec.dialect(hello())


@pytest.mark.parametrize(
    ("publication", "expected"),
    [
        (Publication(b'{"a": 1}'), {"data": {"a": 1}}),
        (Publication(b"1", 5, "abc"), {"data": 1, "offset": 5}),
        (Publication(b"1", 1, "abc"), {"data": 1, "offset": 1, "epoch": "abc"}),
        (Publication(b"1", 1), {"data": 1, "offset": 1}),
        (Publication(b"1", time_ms=7), {"data": 1}),
        (Publication(b"1", tags={"k": "v"}), {"data": 1, "tags": {"k": "v"}}),
        (Publication(b"1", tags={}), {"data": 1}),
        (Publication(b"1", info=ALICE), {"data": 1, "info": {"user": "alice", "client": "c1"}}),
        (
            Publication(b"1", info=ClientInfo(UserId(""), ME, b'{\n"r":1}', b"[2]")),
            {"data": 1, "info": {"user": "", "client": "c1", "conn_info": {"r": 1}, "chan_info": [2]}},
        ),
        (Publication(b'{"a":\n[1,\r\n2]}'), {"data": {"a": [1, 2]}}),
        (Publication(b""), {"data": None}),
    ],
)
def test_publication(publication: Publication, expected: dict[str, Any]) -> None:
    """Data as it stands on one line; info, offset and tags when there are any, the epoch with offset 1 only."""
    payload = codec.push(PublicationPush(X, publication))
    assert payload is not None
    assert {"push": {"channel": "x", "pub": expected}} == json.loads(payload)
    assert b"\n" not in payload


def test_data_is_not_written_anew() -> None:
    """Data is spliced in byte by byte."""
    data = b'{ "b":1.0, "a":"\\u00fc" }'
    payload = codec.push(PublicationPush(X, Publication(data)))
    assert payload is not None
    assert data in payload


@pytest.mark.parametrize(
    ("push", "expected"),
    [
        (
            JoinPush(X, ALICE, first=False),
            {"push": {"channel": "x", "join": {"info": {"user": "alice", "client": "c1"}}}},
        ),
        (
            LeavePush(X, ALICE, last=False),
            {"push": {"channel": "x", "leave": {"info": {"user": "alice", "client": "c1"}}}},
        ),
        (
            UnsubscribePush(X, UNSUBSCRIBED_INSUFFICIENT.code, UNSUBSCRIBED_INSUFFICIENT.reason, TOP),
            {"push": {"channel": "x", "unsubscribe": {"code": 2500, "reason": "insufficient state"}}},
        ),
        (
            UnsubscribePush(X, UNSUBSCRIBED_EXPIRED.code, UNSUBSCRIBED_EXPIRED.reason),
            {"push": {"channel": "x", "unsubscribe": {"code": 2501, "reason": "subscription expired"}}},
        ),
        (PingPush(), {}),
    ],
)
def test_push(push: Push, expected: dict[str, Any]) -> None:
    """Every join and leave is shown; the end of a subscription has code and reason; a ping is an empty reply."""
    assert [expected] == shown(DIALECT, push)


def connected(**fields: Any) -> ConnectResult:
    """Return a connect result."""
    return ConnectResult(ME, UserId("alice"), "1.0", **fields)


def positioned(**fields: Any) -> SubscribeResult:
    """Return the result of a positioned and recoverable subscription."""
    return SubscribeResult(X, TOP, positioned=True, recoverable=True, **fields)


POSITIONED = {"positioned": True, "recoverable": True, "epoch": "abc", "offset": 9}


@pytest.mark.parametrize(
    ("result", "name", "expected"),
    [
        # section 3.1, connect
        (connected(), "connect", {"client": "c1", "version": "1.0"}),
        (connected(node="n"), "connect", {"client": "c1", "version": "1.0"}),
        (connected(ttl=60), "connect", {"client": "c1", "version": "1.0", "expires": True, "ttl": 60}),
        (connected(ttl=0), "connect", {"client": "c1", "version": "1.0", "expires": True}),
        (connected(ping=25, pong=True), "connect", {"client": "c1", "version": "1.0", "ping": 25, "pong": True}),
        (
            connected(subs=[SubscribeResult(Channel("#alice")), positioned()]),
            "connect",
            {"client": "c1", "version": "1.0", "subs": {"#alice": {}, "x": POSITIONED}},
        ),
        # sections 3.2 and 7.1, subscribe
        (SubscribeResult(X), "subscribe", {}),
        (SubscribeResult(X, TOP), "subscribe", {}),
        (positioned(), "subscribe", POSITIONED),
        (
            SubscribeResult(X, Position(0, "abc"), positioned=True),
            "subscribe",
            {"positioned": True, "epoch": "abc"},
        ),
        (SubscribeResult(X, TOP, recoverable=True), "subscribe", POSITIONED),
        (SubscribeResult(X, positioned=True), "subscribe", {}),
        (
            positioned(
                was_recovering=True, recovered=True, since=Position(8, "abc"), publications=[Publication(b"1", 9)]
            ),
            "subscribe",
            POSITIONED
            | {"was_recovering": True, "recovered": True, "offset": 8, "publications": [{"data": 1, "offset": 9}]},
        ),
        (
            positioned(was_recovering=True, recovered=True, since=Position(0, "")),
            "subscribe",
            {k: v for k, v in POSITIONED.items() if k != "offset"} | {"was_recovering": True, "recovered": True},
        ),
        (
            positioned(was_recovering=True, recovered=True),
            "subscribe",
            POSITIONED | {"was_recovering": True, "recovered": True},
        ),
        (positioned(was_recovering=True), "subscribe", POSITIONED | {"was_recovering": True}),
        (SubscribeResult(X, ttl=60), "subscribe", {"expires": True, "ttl": 60}),
        (SubscribeResult(X, data=b'{\n"a":1}'), "subscribe", {"data": {"a": 1}}),
        # section 3.3, the others
        (UnsubscribeResult(X), "unsubscribe", {}),
        (PublishResult(), "publish", {}),
        (PresenceResult(X, {}), "presence", {"presence": {}}),
        (PresenceResult(X, {ME: ALICE}), "presence", {"presence": {"c1": {"user": "alice", "client": "c1"}}}),
        (PresenceStatsResult(X, 0, 0), "presence_stats", {"num_clients": 0, "num_users": 0}),
        (PresenceStatsResult(X, 3, 2), "presence_stats", {"num_clients": 3, "num_users": 2}),
        (HistoryResult(X, [], Position(0, "abc")), "history", {"publications": [], "epoch": "abc", "offset": 0}),
        (
            HistoryResult(X, [Publication(b"2", 2), Publication(b"1", 1, "abc", ALICE)], TOP),
            "history",
            {
                "publications": [
                    {"data": 2, "offset": 2},
                    {"data": 1, "info": {"user": "alice", "client": "c1"}, "offset": 1, "epoch": "abc"},
                ],
                "epoch": "abc",
                "offset": 9,
            },
        ),
        (RefreshResult(ME, "1.0", 60), "refresh", {"client": "c1", "version": "1.0", "expires": True, "ttl": 60}),
        (RefreshResult(ME, "1.0", None), "refresh", {"client": "c1", "version": "1.0"}),
        (SubRefreshResult(X, 60), "sub_refresh", {"expires": True, "ttl": 60}),
        (SubRefreshResult(X, None), "sub_refresh", {}),
    ],
)
def test_reply(result: Result, name: str, expected: dict[str, Any]) -> None:
    """Each result has its name and its fields; zero values are left out but where the page keeps them."""
    assert [{"id": 7, name: expected}] == shown(DIALECT, Reply(7, result))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: str(error.code))
def test_error(error: ErrorReply) -> None:
    """Every error of the table has code and message, and says so if it is temporary."""
    temporary = {"temporary": True} if error.temporary else {}
    expected = {"id": 7, "error": {"code": error.code, "message": error.message} | temporary}
    assert [expected] == shown(DIALECT, Reply(7, error))


def test_error_always_has_a_message() -> None:
    """Python's SDK reads the message of every error."""
    (reply,) = shown(DIALECT, Reply(7, ErrorReply(400, "")))
    assert reply["error"]["message"]


@pytest.mark.parametrize(
    "message",
    [
        Reply(1, PingResult()),
        Reply(1, MembersResult(X, [])),
        Reply(1, MessageResult(UserId("bob"), delivered=True)),
        Reply(1, EchoResult(b"x", text=True)),
        ExpiringPush(60),
    ],
)
def test_not_of_this_protocol(message: Reply | Push) -> None:
    """What only plain clients can ask for is not shown."""
    assert shown(DIALECT, message) == []


def test_farewell_is_the_close_frame() -> None:
    """Code and reason go in the close frame."""
    assert list(DIALECT.farewell(SHUTDOWN)) == []
