from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.api import bodies, publishing
from gateway.errors import EngineFault
from gateway.protocol.compact import Published
from gateway.types import Channel
from tests.support.app import KEY, App, running_app


@pytest.fixture(name="app")
async def _app() -> AsyncIterator[App]:
    async with running_app() as app:
        yield app


async def turns() -> None:
    """Let what is under way come to its end."""
    for _ in range(50):
        await asyncio.sleep(0)


def broken(*args: Any) -> None:
    """Fail as an engine without Redis does."""
    asyncio.get_running_loop().call_soon(args[-1], EngineFault("down"))


# --- who may call


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({"X-API-Key": KEY}, "", 200),
        ({"x-api-key": KEY}, "", 200),
        ({"Authorization": f"apikey {KEY}"}, "", 200),
        ({"Authorization": f"ApiKey {KEY}"}, "", 200),
        ({}, f"?api_key={KEY}", 200),
        ({"Authorization": "Bearer x"}, f"?api_key={KEY}", 200),
        ({}, "", 401),
        ({"X-API-Key": ""}, "", 401),
        ({"X-API-Key": "wrong"}, "", 401),
        ({"X-API-Key": KEY + "x"}, "", 401),
        ({"X-API-Key": "wrong"}, f"?api_key={KEY}", 401),
        ({"X-API-Key": "", "Authorization": f"apikey {KEY}"}, "", 401),
        ({"Authorization": "apikey wrong"}, f"?api_key={KEY}", 401),
        ({"Authorization": f"Bearer {KEY}"}, "", 401),
        ({"Authorization": KEY}, "", 401),
        ({"X-API-Key": "schlüssel"}, "", 401),
        ({}, "?api_key=", 401),
        ({}, "?api_key=%ff", 401),
    ],
)
async def test_the_first_way_that_is_present_must_carry_the_key(
    app: App, headers: dict[str, str], query: str, status: int
) -> None:
    """Three ways to present the key; a wrong one is not made good by another."""
    encoded = {name: value.encode() for name, value in headers.items()}
    response = await app.http.post(f"/api/info{query}", json={}, headers=encoded)  # type: ignore[arg-type] # bytes, too
    assert status == response.status_code


async def test_without_a_key_in_the_settings_every_call_is_refused() -> None:
    """An empty key is no key."""
    async with running_app(http_api={"key": ""}) as app:
        for headers in ({}, {"X-API-Key": ""}, {"X-API-Key": KEY}):
            assert 401 == (await app.http.post("/api/info", json={}, headers=headers)).status_code


# --- bodies


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b'{"channel":1}',
        b'{"channel":"x","data":}',
        b'{"channel":"x","data":{"a":01}}',
        b'{"channel":"x\xff","data":1}',
        b'{"channel":"\\ud800","data":1}',
        b"\xff",
        b"[" * 100_000,
        b'{"channel":"x","data":' + b"[" * 100_000,
        b'{"channel":"x","data":1,"tags":{"a":1}}',
    ],
)
async def test_a_body_that_is_not_understood_is_400(app: App, body: bytes) -> None:
    """Malformed JSON, wrong types and depth are the caller's fault, in plain text."""
    response = await app.post("publish", body)
    assert 400 == response.status_code
    assert response.text.startswith("body: ")
    assert "text/plain" in response.headers["content-type"]


async def test_a_body_has_a_size() -> None:
    """A call over `http_api.body_size_limit` is refused before it is understood; one within it is not."""
    async with running_app(http_api={"key": KEY, "body_size_limit": 2048}) as app:
        assert 413 == (await app.post("publish", {"channel": "chat:x", "data": "x" * 2048})).status_code
        assert 200 == (await app.post("publish", {"channel": "chat:x", "data": "x" * 1900})).status_code


async def test_unknown_fields_are_passed_over_and_an_empty_body_is_an_empty_request(app: App) -> None:
    """Newer callers may know more than we do."""
    assert 200 == (await app.post("info", b"")).status_code
    assert {} == await app.result("publish", channel="bare:x", data=1, something_new=[1])


async def test_an_unknown_method_is_404_and_get_is_405(app: App) -> None:
    """Only the methods we have."""
    assert 404 == (await app.post("teleport")).status_code
    assert 405 == (await app.http.get("/api/info", headers={"X-API-Key": KEY})).status_code


# --- publish


async def test_publish_delivers_and_says_where(app: App) -> None:
    """A kept publication has a position, one that is not kept has none; both arrive."""
    client = app.client()
    client.ask(connect={})
    client.subscribe("chat:x")
    client.subscribe("bare:x")
    await turns()
    first = await app.result("publish", channel="chat:x", data={"message": "a\nb"}, tags={"k": "v"})
    second = await app.result("publish", channel="chat:x", data="second")
    assert (1, 2) == (first["offset"], second["offset"])
    assert first["epoch"] == second["epoch"] != ""
    assert {} == await app.result("publish", channel="bare:x", data=[1, None])
    await turns()
    assert [{"message": "a\nb"}, "second", [1, None]] == client.published()
    tags = [it["pub"].get("tags") for it in client.pushes() if "pub" in it]
    assert [{"k": "v"}, None, None] == tags


@pytest.mark.parametrize("data", [b"null", b"0", b'""', b"{}", b"false"])
async def test_every_json_value_is_data(app: App, data: bytes) -> None:
    """Falsy data is data."""
    response = await app.post("publish", b'{"channel":"bare:x","data":%b}' % data)
    assert {"result": {}} == response.json()


async def test_line_breaks_in_data_are_taken_out(app: App) -> None:
    """Raw line breaks would separate messages in a frame of the Centrifuge protocol."""
    await app.post("publish", b'{"channel":"chat:x","data":{\r\n "a":\n[1,\n2]}}')
    page = await app.post("history", {"channel": "chat:x", "limit": -1})
    assert b'"data":{"a":[1,2]}' in page.content


async def test_b64data_is_json_in_base64(app: App) -> None:
    """For callers that cannot nest JSON."""
    encoded = base64.b64encode(b'{"a":1}').decode()
    await app.result("publish", channel="chat:x", b64data=encoded)
    page = await app.result("history", channel="chat:x", limit=-1)
    assert [{"a": 1}] == [it["data"] for it in page["publications"]]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"b64data": "%%%"},
        {"b64data": "YQ"},
        {"b64data": base64.b64encode(b"not json").decode()},
        {"b64data": base64.b64encode(b'"\xff"').decode()},
        {"b64data": base64.b64encode(b'"a\nb"').decode()},
        {"b64data": base64.b64encode(b"[" * 100_000).decode()},
        {"data": 1, "channel": ""},
    ],
)
async def test_bad_requests_of_publish(app: App, fields: dict[str, Any]) -> None:
    """Without channel or data, or with data that is no JSON text: 107, and nothing is published."""
    assert 107 == await app.error("publish", **{"channel": "chat:x", **fields})
    assert 0 == (await app.result("history", channel="chat:x"))["offset"]


async def test_data_that_is_no_utf8_is_refused(app: App) -> None:
    """It would end the connection of every subscriber with 1007."""
    response = await app.post("publish", b'{"channel":"chat:x","data":"\xff"}')
    assert 107 == response.json()["error"]["code"]


async def test_publish_to_an_unknown_namespace_and_with_versions(app: App) -> None:
    """What we cannot honour is refused, not ignored."""
    assert 102 == await app.error("publish", channel="nowhere:x", data=1)
    assert 108 == await app.error("publish", channel="chat:x", data=1, version=2)
    assert 108 == await app.error("publish", channel="chat:x", data=1, version_epoch="a")


async def test_an_idempotency_key_publishes_once(app: App) -> None:
    """The second call gets the first one's position and is counted as a duplicate."""
    first = await app.result("publish", channel="chat:x", data=1, idempotency_key="k")
    assert first == await app.result("publish", channel="chat:x", data=2, idempotency_key="k")
    assert 1 == (await app.result("history", channel="chat:x"))["offset"]
    metrics = (await app.http.get("/metrics")).text
    assert 'gateway_publishes_total{result="duplicate"} 1.0' in metrics
    assert 'gateway_publishes_total{result="ok"} 1.0' in metrics


async def test_skip_history_delivers_without_keeping(app: App) -> None:
    """Subscribers get it, positions do not move."""
    client = app.client()
    client.ask(connect={})
    client.subscribe("chat:x")
    await turns()
    assert {} == await app.result("publish", channel="chat:x", data=1, skip_history=True)
    await app.result("publish", channel="chat:x", data=2)
    await turns()
    assert [1, 2] == client.published()
    assert [2] == [it["data"] for it in (await app.result("history", channel="chat:x", limit=-1))["publications"]]


# --- broadcast


async def test_broadcast_has_one_answer_for_each_channel_in_order(app: App) -> None:
    """One bad channel costs the others nothing."""
    channels = ["chat:x", "nowhere:x", "bare:x", "", "chat:y"]
    responses = (await app.result("broadcast", channels=channels, data={"a": 1}))["responses"]
    assert [1, None, None, None, 1] == [it.get("result", {}).get("offset") for it in responses]
    assert [None, 102, None, 107, None] == [it.get("error", {}).get("code") for it in responses]
    assert {} == responses[2]["result"]


async def test_a_broadcast_to_thousands_lets_others_have_their_turns(app: App) -> None:
    """No more than a thousand are published to in one turn of the loop; each still has its own answer, in its place."""
    made: list[Channel] = []
    real = app.node.engine.broker.publish
    engine: Any = app.node.engine

    def counted(channel: Channel, *args: Any) -> None:
        made.append(channel)
        real(channel, *args)

    engine.broker.publish = counted
    channels = [f"chat:{it}" if it % 100 else "nowhere:x" for it in range(2_500)]
    told = asyncio.create_task(app.result("broadcast", channels=channels, data=1))
    while not made:  # turn by turn: an event is heard a turn late
        assert not told.done(), "nothing was published"
        await asyncio.sleep(0)
    assert 990 == len(made)
    responses = (await told)["responses"]
    assert [it for it in channels if it != "nowhere:x"] == made
    assert [it % 100 == 0 for it in range(2_500)] == ["error" in it for it in responses]


async def test_a_broadcast_is_looked_up_and_answered_turn_by_turn(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """No turn looks up or tells of more than a thousand channels, even when the engine answers at once."""
    looked_up, told, steps = list[str](), list[Published](), list[tuple[int, int]]()
    named, taken = bodies.named, publishing.Publisher._taken
    engine: Any = app.node.engine
    engine.broker.publish = lambda *args: args[-1](Published())

    def look_up(name: str) -> Channel:
        looked_up.append(name)
        return named(name)

    def tell(self: publishing.Publisher, published: Published) -> bodies.PublishResult:
        told.append(published)
        return taken(self, published)

    monkeypatch.setattr(publishing, "named", look_up)
    monkeypatch.setattr(publishing.Publisher, "_taken", tell)
    channels = [f"chat:{it}" for it in range(2_500)]
    telling = asyncio.create_task(app.result("broadcast", channels=channels, data=1))
    while not telling.done():
        before = len(looked_up), len(told)
        await asyncio.sleep(0)
        steps.append((len(looked_up) - before[0], len(told) - before[1]))
    assert [{"result": {}}] * 2_500 == (await telling)["responses"]
    assert channels == looked_up
    assert [publishing.AT_ONCE] * 2 == [max(step) for step in zip(*steps, strict=True)]


async def test_bad_requests_of_broadcast(app: App) -> None:
    """Without channels or data there is nothing to do."""
    assert 107 == await app.error("broadcast", channels=[], data=1)
    assert 107 == await app.error("broadcast", channels=["chat:x"])


async def test_a_fault_in_a_broadcast_is_that_channels_own(app: App) -> None:
    """Redis away: each channel says 100."""
    engine: Any = app.node.engine
    engine.broker.publish = broken
    responses = (await app.result("broadcast", channels=["chat:x", "chat:y"], data=1))["responses"]
    assert [100, 100] == [it["error"]["code"] for it in responses]


# --- presence


async def test_presence_and_its_counts(app: App) -> None:
    """Everyone in the channel by connection, and how many different users."""
    clients = [app.client() for _ in range(2)]
    for client in clients:
        client.ask(connect={})
        client.subscribe("chat:x")
    await turns()
    presence = (await app.result("presence", channel="chat:x"))["presence"]
    assert {it.connection.id for it in clients} == set(presence)
    one = clients[0].connection.id
    assert {"user": "", "client": one} == presence[one]
    assert {"num_clients": 2, "num_users": 1} == await app.result("presence_stats", channel="chat:x")
    assert {"presence": {}} == await app.result("presence", channel="here:nobody")
    assert {"num_clients": 0, "num_users": 0} == await app.result("presence_stats", channel="here:nobody")


@pytest.mark.parametrize("method", ["presence", "presence_stats"])
async def test_presence_that_is_off_or_unknown(app: App, method: str) -> None:
    """108 where the namespace has none, 102 where there is no namespace, 107 without a channel."""
    assert 108 == await app.error(method, channel="bare:x")
    assert 102 == await app.error(method, channel="nowhere:x")
    assert 107 == await app.error(method)


@pytest.mark.parametrize("method", ["presence", "presence_stats", "history"])
async def test_an_engine_without_a_store_is_108(app: App, method: str) -> None:
    """What the engine cannot do is not available."""
    engine: Any = app.node.engine
    engine.presence = engine.history = None
    assert 108 == await app.error(method, channel="chat:x")


# --- history


async def test_history_pages_forward_backward_and_from_a_position(app: App) -> None:
    """Limits, order and `since` as the engine keeps them; the top is always told."""
    for number in range(1, 8):
        await app.result("publish", channel="chat:x", data=number)

    async def read(**fields: Any) -> list[int]:
        page = await app.result("history", channel="chat:x", **fields)
        assert 7 == page["offset"]
        assert [it["offset"] for it in page["publications"]] == [it["data"] for it in page["publications"]]
        return [it["data"] for it in page["publications"]]

    epoch = (await app.result("history", channel="chat:x"))["epoch"]
    assert [] == await read()
    assert [1, 2, 3] == await read(limit=3)
    assert [7, 6] == await read(limit=2, reverse=True)
    assert [1, 2, 3, 4, 5, 6, 7] == await read(limit=-1)
    assert [4, 5] == await read(limit=2, since={"offset": 3, "epoch": epoch})
    assert [4, 5, 6, 7] == await read(limit=-1, since={"offset": 3})
    assert [2, 1] == await read(limit=5, since={"offset": 3, "epoch": epoch}, reverse=True)
    assert [] == await read(limit=5, since={"offset": 7, "epoch": epoch})


async def test_refusals_of_history(app: App) -> None:
    """Another epoch is 112, reverse from nowhere 107, off 108, unknown 102."""
    await app.result("publish", channel="chat:x", data=1)
    assert 112 == await app.error("history", channel="chat:x", limit=1, since={"offset": 1, "epoch": "old"})
    assert 107 == await app.error("history", channel="chat:x", limit=1, since={"offset": 0}, reverse=True)
    assert 108 == await app.error("history", channel="bare:x")
    assert 102 == await app.error("history", channel="nowhere:x")
    assert 107 == await app.error("history")


@pytest.mark.parametrize(
    "fields",
    [
        {"limit": -2},
        {"limit": 2**31},
        {"limit": 1, "since": {"offset": -1}},
        {"limit": 1, "since": {"offset": 2**63}},
        {"limit": "all"},
    ],
)
async def test_numbers_that_mean_nothing_are_400(app: App, fields: dict[str, Any]) -> None:
    """A limit below -1 and a negative offset never reach the engine."""
    assert 400 == (await app.post("history", {"channel": "chat:x", **fields})).status_code


# --- disconnect, info


async def test_disconnect_closes_a_users_connections(app: App) -> None:
    """By connection id, with the code and reason of the caller, or the default."""
    one, two = app.client(), app.client()
    for client in (one, two):
        client.ask(connect={})
    await app.result("disconnect", client=one.connection.id)
    await app.result("disconnect", client=two.connection.id, disconnect={"code": 4100, "reason": "later"})
    await turns()
    assert (3503, 4100) == (one.link.code, two.link.code)
    assert ("force disconnect", "later") == (one.link.closings[0].reason, two.link.closings[0].reason)


async def test_a_long_reason_is_cut_to_what_a_close_frame_holds(app: App) -> None:
    """At most 123 bytes, and whole characters."""
    client = app.client()
    client.ask(connect={})
    await app.result("disconnect", client=client.connection.id, disconnect={"code": 3500, "reason": "é" * 200})
    await turns()
    assert "é" * 61 == client.link.closings[0].reason


async def test_bad_requests_of_disconnect(app: App) -> None:
    """Nobody named, a code outside the range, or a field we would have to pass over."""
    assert 107 == await app.error("disconnect")
    for code in (0, 1000, 2999, 5000):
        assert 107 == await app.error("disconnect", user="alice", disconnect={"code": code, "reason": "x"})
    assert 108 == await app.error("disconnect", user="alice", session="x")


async def test_info_tells_of_the_node(app: App) -> None:
    """One node, itself, with its numbers."""
    client = app.client()
    client.ask(connect={})
    client.subscribe("chat:x")
    await turns()
    [node] = (await app.result("info"))["nodes"]
    assert (app.node.id, 1, 1, 1, 1) == (
        node["uid"],
        node["num_clients"],
        node["num_users"],
        node["num_subs"],
        node["num_channels"],
    )
    assert {"name", "version", "uptime"} <= set(node)


# --- faults and the way errors are told


@pytest.mark.parametrize(
    ("method", "place", "name", "body"),
    [
        ("publish", "broker", "publish", {"channel": "chat:x", "data": 1}),
        ("presence", "presence", "members", {"channel": "chat:x"}),
        ("presence_stats", "presence", "stats", {"channel": "chat:x"}),
        ("history", "history", "read", {"channel": "chat:x"}),
        ("disconnect", "control", "send", {"user": "alice"}),
    ],
)
async def test_a_fault_of_the_engine_is_100(app: App, method: str, place: str, name: str, body: dict[str, Any]) -> None:
    """Redis away is a temporary error, not a 500."""
    setattr(getattr(app.node.engine, place), name, broken)
    assert 100 == await app.error(method, **body)


@pytest.mark.parametrize(
    ("status", "method", "body"),
    [
        (500, "publish", {"channel": "chat:fault", "data": 1}),
        (404, "publish", {"channel": "nowhere:x", "data": 1}),
        (400, "publish", {"channel": "chat:x"}),
        (400, "presence", {"channel": "bare:x"}),
        (416, "history", {"channel": "chat:x", "limit": 1, "since": {"offset": 1, "epoch": "old"}}),
    ],
)
async def test_error_mode_transport_tells_by_status(app: App, status: int, method: str, body: dict[str, Any]) -> None:
    """The error itself is the body then; a result stays 200."""
    mode = {"X-Centrifugo-Error-Mode": "transport"}
    if body["channel"] == "chat:fault":
        engine: Any = app.node.engine
        engine.broker.publish = broken
    response = await app.post(method, body, mode)
    assert status == response.status_code
    assert {"code", "message"} == set(response.json())
    assert 200 == (await app.post("info", {}, mode)).status_code


# --- the page of the API


async def test_openapi_lists_every_method_with_its_body(app: App) -> None:
    """`/docs` shows what can be called and with what."""
    page = (await app.http.get("/openapi.json")).json()
    methods = {path.removeprefix("/api/") for path in page["paths"] if path.startswith("/api/")}
    assert {
        "publish",
        "broadcast",
        "presence",
        "presence_stats",
        "history",
        "disconnect",
        "revoke",
        "info",
        "drain",
    } == methods
    body = page["paths"]["/api/history"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert {"channel", "limit", "since", "reverse"} == set(body["properties"])
    assert "$ref" not in str(body)
    assert 200 == (await app.http.get("/docs")).status_code
