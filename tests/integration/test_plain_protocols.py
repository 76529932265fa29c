"""The plain protocols over real sockets of a whole node, with real tokens: all that a bare client lives through."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from gateway.answers import answer
from gateway.app import create_gateway
from gateway.node import Node
from gateway.server import ServerRules, running
from gateway.settings import Settings
from gateway.types import Channel
from tests.support.deadlines import bounded

SECRET = "0123456789abcdef0123456789abcdef"
KEY = "key"
PATIENCE = 30.0  # seconds; a test that waits so long has failed


def token(user: str = "alice", ttl: float = 600, *, ticket: bool = False, **claims: Any) -> str:
    """Sign a token, or a ticket; a negative `ttl` has passed."""
    headers = {"typ": "ticket+jwt"} if ticket else None
    told = {"sub": user, "aud": "gateway", "exp": int(time.time() + ttl), **claims}
    return jwt.encode(told, SECRET, "HS256", headers=headers)


class Plain:
    """A bare client that reads what it is sent one by one."""

    def __init__(self, link: ClientConnection) -> None:
        self.link = link

    async def say(self, kind: str, **fields: Any) -> None:
        """Send one message."""
        await self.link.send(json.dumps({"type": kind, **fields}))

    async def heard(self) -> Any:
        """Return the next message."""
        async with asyncio.timeout(PATIENCE):
            return json.loads(await self.link.recv())

    async def until(self, kind: str, **fields: Any) -> Any:
        """Return the next message of a kind, with these fields; others are passed over."""
        while True:
            message = await self.heard()
            if message["type"] == kind and fields.items() <= message.items():
                return message

    async def closed(self) -> tuple[int | None, str | None]:
        """Wait for the close frame; messages on the way are passed over."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await self.link.recv()
                except ConnectionClosed:
                    return self.link.close_code, self.link.close_reason


class Place:
    """A running node."""

    def __init__(self, url: str, node: Node) -> None:
        self.url = url
        self.node = node

    @asynccontextmanager
    async def link(
        self, path: str = "/ws", *, offered: Sequence[str] = (), query: str = "", bearer: str = ""
    ) -> AsyncIterator[Plain]:
        """Connect."""
        where = f"{self.url.replace('http', 'ws', 1)}{path}" + (f"?{query}" if query else "")
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else None
        names = [Subprotocol(it) for it in offered] or None
        async with connect(where, subprotocols=names, additional_headers=headers, proxy=None) as socket:
            yield Plain(socket)

    @asynccontextmanager
    async def entered(self, user: str, room: str = "lobby", *, since: str = "") -> AsyncIterator[Plain]:
        """Connect and be welcomed; history that comes with it is still to be read."""
        query = f"since={since}" if since else ""
        async with self.link(f"/ws/{room}", bearer=token(user), query=query) as client:
            await client.until("welcome", user=user, room=room)
            yield client

    async def publish(self, channel: str, data: Any) -> None:
        """Publish as a backend does."""
        body, headers = {"channel": channel, "data": data}, {"X-API-Key": KEY}
        async with httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=30.0) as http:
            answer = await http.post("/api/publish", json=body, headers=headers)
        assert "result" in answer.raise_for_status().json()


@pytest.fixture(name="place")
async def _place() -> AsyncIterator[Place]:
    sections = {
        "client": {"token": {"hmac_secret_key": SECRET, "leeway": 0}},
        "http_api": {"key": KEY},
        "chat": {"rate": 0},  # tests talk faster than people
    }
    made = create_gateway(Settings.model_validate(sections))
    rules = ServerRules(
        recorder=made.metrics,
        admission=made.admission,
        proxies=made.proxies,
        http=made.http_limits,
        websocket=made.websocket_limits,
        drain=made.node.drain,
    )
    async with bounded(running(made.public, rules=rules)) as url:
        yield Place(url, made.node)


@pytest.fixture(name="room")
def _room() -> str:
    return f"room-{uuid4().hex[:8]}"


# --- who are you

WAYS = ("header", "subprotocol", "ticket", "query", "message")


@asynccontextmanager
async def presenting(place: Place, way: str, value: str) -> AsyncIterator[Plain]:
    """Connect with a token presented in one of the five ways."""
    ways: dict[str, dict[str, Any]] = {
        "header": {"bearer": value},
        "subprotocol": {"offered": ("chat", f"bearer.{value}")},
        "ticket": {"query": f"ticket={value}"},
        "query": {"query": f"token={value}"},
        "message": {},
    }
    async with place.link(**ways[way]) as client:
        if way == "message":
            await client.say("auth", token=value)
        yield client


@pytest.mark.parametrize("way", WAYS)
async def test_each_way_to_present_a_token_lets_its_user_in(place: Place, way: str) -> None:
    """Five ways, one welcome; of the subprotocols offered only `chat` is echoed, and nothing where none was."""
    value = token(ticket=way == "ticket", ttl=30, jti=uuid4().hex)
    async with presenting(place, way, value) as client:
        welcome = await client.until("welcome")
        assert ("alice", "lobby") == (welcome["user"], welcome["room"])
        assert {"type", "user", "room", "client", "node"} == set(welcome)
        assert ("chat" if way == "subprotocol" else None) == client.link.subprotocol


@pytest.mark.parametrize("way", WAYS[1:])
@pytest.mark.parametrize("reason", ["invalid token", "token expired"])
async def test_a_refused_token_is_told_by_the_close_code(place: Place, way: str, reason: str) -> None:
    """Browsers cannot read an HTTP status: the handshake succeeds, then comes 3500 with the reason."""
    expired = reason == "token expired"
    value = token(ticket=way == "ticket", ttl=-5 if expired else 30, jti=uuid4().hex)
    async with presenting(place, way, value if expired else value[:-8] + value[-8:].swapcase()) as client:
        assert (3500, reason) == await client.closed()


@pytest.mark.parametrize(
    "value", [token(ttl=-5), "rubbish", token(ticket=True, ttl=50, jti="j1"), token(channel="chat:lobby")]
)
async def test_a_refused_header_is_401(place: Place, value: str) -> None:
    """Programs get an HTTP status before the upgrade, for a token of another kind too, and no chance by another way."""
    with pytest.raises(InvalidStatus) as refused:
        async with place.link(bearer=value, query=f"token={token()}"):
            pass
    assert 401 == refused.value.response.status_code


async def test_a_ticket_is_good_once(place: Place) -> None:
    """The second who comes with it is refused, though it has not expired."""
    ticket = token(ticket=True, ttl=30, jti=uuid4().hex)
    async with presenting(place, "ticket", ticket) as first, presenting(place, "ticket", ticket) as second:
        assert "alice" == (await first.until("welcome"))["user"]
        assert (3500, "invalid token") == await second.closed()


async def test_a_token_is_no_ticket_and_a_ticket_no_token(place: Place) -> None:
    """Each is good for its own way only: a ticket in a header could be used again and again."""
    ticket = token(ticket=True, ttl=30, jti=uuid4().hex)
    async with presenting(place, "ticket", token()) as one, presenting(place, "query", ticket) as other:
        assert 3500 == (await one.closed())[0]
        assert 3500 == (await other.closed())[0]


@pytest.mark.parametrize("offered", ["chat", "notifications", "echo"])
async def test_nothing_comes_before_auth(place: Place, offered: str) -> None:
    """Who presents no token and says anything else first is gone with 3501."""
    async with place.link(offered=(offered,)) as client:
        await client.say("ping")
        assert 3501 == (await client.closed())[0]


@pytest.mark.parametrize("user", ["a,b", "a#b", "a\nb", "x" * 201])
async def test_a_user_without_a_personal_channel_is_refused(place: Place, user: str) -> None:
    """Private messages could not reach such a user alone."""
    async with presenting(place, "query", token(user)) as client:
        assert 3500 == (await client.closed())[0]


# --- rooms


async def test_messages_of_a_room(place: Place, room: str) -> None:
    """Everybody gets a message, its sender too, who is told by the gateway; data that names one is refused."""
    async with place.entered("alice", room) as alice, place.entered("bob", room) as bob:
        await alice.say("chat", message="hi", sender="eve")
        assert 103 == (await alice.until("error"))["code"]
        await alice.say("chat", message="hi")
        mine, theirs = await alice.until("chat_message"), await bob.until("chat_message")
        assert mine == theirs
        assert ("alice", "hi", room) == (mine["sender"], mine["content"], mine["room"])
        assert {"type", "room", "sender", "content", "timestamp", "id"} == set(mine)
        offset, _, epoch = mine["id"].partition("@")
        assert ("1", True) == (offset, bool(epoch))

        await bob.link.send("   ")  # blank: not said
        await bob.link.send("as it stands")
        assert "as it stands" == (await alice.until("chat_message"))["content"]


async def test_history_on_entry_and_on_request(place: Place, room: str) -> None:
    """The last messages follow the welcome if there are any, and come again, as many as are asked for."""
    async with place.entered("alice", room) as alice:
        said = []
        for text in ("one", "two", "three"):
            await alice.say("chat", message=text)
            said.append(await alice.until("chat_message", content=text))
        async with place.entered("bob", room) as bob:
            first = await bob.heard()
            assert {"type": "history", "room": room, "messages": said} == first
            await bob.say("history", limit=2)
            assert ["two", "three"] == [it["content"] for it in (await bob.until("history"))["messages"]]


async def test_since_brings_exactly_what_was_missed(place: Place, room: str) -> None:
    """`since` recovers, marked as such; where that cannot be, the gap is told ahead of the newest history."""
    async with place.entered("alice", room) as alice:
        ids = []
        for text in ("one", "two", "three"):
            await alice.say("chat", message=text)
            ids.append((await alice.until("chat_message", content=text))["id"])
        async with place.entered("bob", room, since=ids[0]) as bob:
            missed = await bob.heard()
            assert ("history", True, ids[1:]) == (
                missed["type"],
                missed["recovered"],
                [it["id"] for it in missed["messages"]],
            )
            await alice.say("chat", message="four")
            assert "four" == (await bob.until("chat_message"))["content"]
        async with place.entered("carol", room, since="1@otherone") as carol:
            assert {"type": "gap", "room": room} == await carol.until("gap")
            newest = await carol.until("history")
            assert (4, False) == (len(newest["messages"]), newest.get("recovered", False))


async def test_what_gets_lost_on_the_way_is_mended_or_told(
    place: Place, room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What history has comes in its place; what it has not is told as a gap, and within 10 s again by 3010."""
    channel = Channel(f"chat:{room}")
    history = place.node.engine.history
    assert history is not None

    async def lose(text: str, *, kept: bool) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(place.node, "published", lambda *_: None)
            await place.publish(channel, {"message": text})
        if not kept:
            await answer(history.remove, channel)

    async with place.entered("alice", room) as alice:
        await place.publish(channel, {"message": "one"})
        await lose("two", kept=True)
        await place.publish(channel, {"message": "three"})
        for text in ("one", "two", "three"):
            assert text == (await alice.until("chat_message"))["content"]

        await lose("four", kept=False)
        await place.publish(channel, {"message": "five"})
        assert {"type": "gap", "room": room} == await alice.until("gap")
        newest = await alice.until("history")
        assert (["five"], False) == ([it["content"] for it in newest["messages"]], newest.get("recovered", False))

        await lose("six", kept=False)
        await place.publish(channel, {"message": "seven"})
        assert 3010 == (await alice.closed())[0]


async def test_more_rooms_on_one_connection(place: Place, room: str) -> None:
    """`join` welcomes to a further room, `room` says where one speaks, `leave` ends it; outsiders may not speak."""
    other = f"{room}-2"
    async with place.entered("alice", room) as alice, place.entered("bob", other) as bob:
        await alice.say("chat", message="x", room=other)
        refused = await alice.until("error")
        assert (103, "chat") == (refused["code"], refused["request"])

        await alice.say("join", room=other)
        assert other == (await alice.until("welcome"))["room"]
        joined = await bob.until("system", event="joined", user="alice", room=other)
        assert "User 'alice' has joined the chat." == joined["content"]
        await alice.say("users", room=other)
        assert {"type": "users", "room": other, "users": ["alice", "bob"]} == await alice.until("users")
        await alice.say("chat", message="hello", room=other)
        told = await bob.until("chat_message")
        assert ("alice", other, "hello") == (told["sender"], told["room"], told["content"])

        await alice.say("leave", room=other)
        assert {"type": "left", "room": other} == await alice.until("left")
        assert "User 'alice' has left the chat." == (await bob.until("system", event="left"))["content"]
        await alice.link.send("/users")
        assert ["alice"] == (await alice.until("users"))["users"]


async def test_private_messages(place: Place, room: str) -> None:
    """They reach every tab of their target wherever it is, and the sender learns whether anybody was there."""
    async with (
        place.entered("alice", room) as alice,
        place.entered("bob", room) as one,
        place.entered("bob", f"{room}-2") as two,
    ):
        await alice.say("private_chat", target_user="bob", message="psst")
        assert {"type": "private_chat_sent", "target": "bob", "delivered": True} == await alice.until(
            "private_chat_sent"
        )
        for tab in (one, two):
            told = await tab.until("private_chat_message")
            assert ("alice", "bob", "psst") == (told["sender"], told["target"], told["content"])
        await alice.link.send("/pm nobody anybody there?")
        assert {"type": "private_chat_sent", "target": "nobody", "delivered": False} == await alice.until(
            "private_chat_sent"
        )

        await place.publish("#bob", {"message": "from above"})
        await place.publish("#bob", [1])
        told = await one.until("private_chat_message")
        assert (None, "from above") == (told["sender"], told["content"])
        told = await one.until("private_chat_message")
        assert (None, [1]) == (told["sender"], told["data"])


async def test_a_centrifuge_client_is_a_chat_peer(place: Place, room: str) -> None:
    """Each sees what the other says; data that is no chat message is shown as data, a backend's has no sender."""
    channel = f"chat:{room}"
    async with place.link("/connection/websocket") as sdk, place.entered("alice", room) as alice:
        commands: list[dict[str, Any]] = [
            {"connect": {"token": token("bob")}},
            {"subscribe": {"channel": channel}},
            {"publish": {"channel": channel, "data": {"message": "from an sdk"}}},
            {"publish": {"channel": channel, "data": {"temperature": 21}}},
            {"publish": {"channel": "#alice", "data": {"message": "forged"}}},
            {"publish": {"channel": "notifications:all", "data": {}}},
        ]
        await sdk.link.send("\n".join(json.dumps({"id": n + 1, **it}) for n, it in enumerate(commands)))
        told = await alice.until("chat_message", sender="bob")
        assert "from an sdk" == told["content"]
        told = await alice.until("chat_message", sender="bob")
        assert ({"temperature": 21}, False) == (told["data"], "content" in told)

        errors: list[tuple[int, int]] = []
        while len(errors) < 2:  # the server alone writes to personal channels and notifications
            async with asyncio.timeout(PATIENCE):
                lines = str(await sdk.link.recv()).splitlines()
            errors += [(it["id"], it["error"]["code"]) for it in map(json.loads, lines) if "error" in it]
        assert [(5, 103), (6, 103)] == sorted(errors)

        await place.publish(channel, {"message": "from a backend"})
        assert (await alice.until("chat_message", content="from a backend"))["sender"] is None


# --- what goes wrong


async def test_errors_leave_the_connection_up_to_the_twentieth(place: Place, room: str) -> None:
    """Broken JSON, unknown types, missing fields and too much text are answered; twenty in a minute are 3509."""
    async with place.entered("alice", room) as alice:
        bad = ["{", '{"type":"sing"}', '{"type":"chat"}', "x" * (16 * 1024 + 1), *["{"] * 15]
        for text in bad:
            await alice.link.send(text)
        told = [await alice.until("error") for _ in bad]
        assert {107} == {it["code"] for it in told}
        assert [None, "sing", "chat", "chat"] == [it["request"] for it in told[:4]]
        assert "16384" in told[3]["message"]
        await alice.say("ping")
        assert {"type": "pong"} == await alice.until("pong")
        await alice.link.send("{")
        assert 3509 == (await alice.closed())[0]


async def test_bytes_that_are_no_text_are_1007(place: Place, room: str) -> None:
    """JSON in a binary frame is welcome, anything but UTF-8 is not."""
    async with place.entered("alice", room) as alice:
        await alice.link.send(b'{"type":"chat","message":"in bytes"}')
        assert "in bytes" == (await alice.until("chat_message"))["content"]
        await alice.link.send(b"\xff\xfe")
        assert 1007 == (await alice.closed())[0]


async def test_a_token_that_ends_is_announced_and_replaced_in_place(place: Place, room: str) -> None:
    """The last minute is announced; another token of the same user goes on, one of anybody else ends it."""
    async with place.link(f"/ws/{room}", bearer=token(ttl=30)) as alice:
        assert 0 < (await alice.until("expiring"))["in"] <= 30
        await alice.say("auth", token=token(ttl=600))
        assert 590 <= (await alice.until("refreshed"))["expires_in"] <= 600
        await alice.say("auth", token=token("bob"))
        assert 3500 == (await alice.closed())[0]


# --- the other two


async def test_notifications_only_listen(place: Place) -> None:
    """What the server publishes for all and for this user arrives; a client may send nothing but auth and ping."""
    async with place.link("/ws/ignored", offered=("notifications",), bearer=token()) as alice:
        assert "notifications" == alice.link.subprotocol
        await alice.say("ping")
        assert {"type": "pong"} == await alice.heard()  # no welcome; and from here on both channels are heard
        await place.publish("notifications:all", {"n": 1})
        told = await alice.heard()
        assert ("notification", "notifications:all", {"n": 1}) == (told["type"], told["channel"], told["data"])
        assert told["id"].startswith("1@")
        await place.publish("#alice", "only you")
        expected = {"type": "notification", "channel": "#alice", "data": "only you", "id": None}
        assert expected == await alice.heard()

        await alice.link.send("hello")
        assert 108 == (await alice.until("error"))["code"]
        await place.publish("notifications:all", 2)
    async with place.link(offered=("notifications",), bearer=token(), query=f"since={told['id']}") as again:
        missed = await again.heard()
        assert ("notifications:all", 2) == (missed["channel"], missed["data"])


@pytest.mark.parametrize("payload", ["", "hi", '{"type":"auth","token":"x"}', b"", b"\x00\xff"])
async def test_echo_gives_back_what_it_gets(place: Place, payload: str | bytes) -> None:
    """Text as text, bytes as bytes, whatever they say."""
    async with place.link("/ws/ignored", offered=("echo",), bearer=token()) as client:
        assert "echo" == client.link.subprotocol
        await client.link.send(payload)
        async with asyncio.timeout(PATIENCE):
            assert payload == await client.link.recv()
