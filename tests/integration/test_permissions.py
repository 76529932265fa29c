"""Permissions on real sockets, in both dialects: a sample of the table's cells, and forgeries that reach nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import product
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.fleet import SECRET
from tests.support.newcomers import token
from tests.support.serving import Serving, serving
from tests.support.speaking import Speaker, connected, outcome, speaking
from tests.unit.protocol.test_permissions import ACTIONS, ALL_FLAGS, FLAGS, TABLE, promised

KEPT = {"presence": True, "history_size": 10, "history_ttl": "60s"}
MEMBERS = ["subscribe_for_client", "publish_for_subscriber", "presence_for_subscriber", "history_for_subscriber"]
SETS = {
    "none": frozenset[str](),
    "all": ALL_FLAGS,
    **{f"only-{it}": frozenset({f"allow_{it}"}) for family in FLAGS.values() for it in family},
    **{f"but-{it}": ALL_FLAGS - {f"allow_{it}"} for family in FLAGS.values() for it in family},
}
CHANNEL = {"open": "{}:x", "private": "${}:x", "limited": "{}:x#alice,bob", "personal_in_namespace": "{}:#alice"}
ROLES = {"anonymous": "", "user": "carol", "listed": "alice", "subscriber": "carol", "anonymous subscriber": ""}
COMMANDS = {
    "subscribe": lambda channel: {"subscribe": {"channel": channel}},
    "publish": lambda channel: {"publish": {"channel": channel, "data": {}}},
    "presence": lambda channel: {"presence": {"channel": channel}},
    "presence_stats": lambda channel: {"presence_stats": {"channel": channel}},
    "history": lambda channel: {"history": {"channel": channel, "limit": 1}},
}
CLIENT = {"token": {"hmac_secret_key": SECRET}, "allow_anonymous_connect_without_token": True}


def settings(name: str, flags: frozenset[str]) -> dict[str, Any]:
    """Return the settings of a namespace that keeps everything and allows this."""
    return {"name": name, **KEPT, **dict.fromkeys(sorted(flags), True)}


@pytest.fixture(name="node")
async def _node() -> AsyncIterator[Serving]:
    named = [settings(name.replace("_", "-"), flags) for name, flags in SETS.items()]
    club = settings("club", frozenset(f"allow_{it}" for it in MEMBERS))
    async with serving(client=CLIENT, channel={"namespaces": [*named, club]}) as it:
        yield it


@pytest.mark.parametrize("role", ROLES)
async def test_cells_over_a_socket(node: Serving, role: str) -> None:
    """Every option alone and every one left out, in four kinds of channel, asked by a Centrifuge client."""
    user, wrong, count = ROLES[role], [], 0
    async with connected(node.url, token(user) if user else "") as speaker:
        for (name, flags), (kind, pattern) in product(SETS.items(), CHANNEL.items()):
            channel = pattern.format(name.replace("_", "-"))
            if "subscriber" in role:
                subscribe = {"channel": channel, "token": token(user, channel=channel)}
                assert "subscribe" in await speaker.ask(subscribe=subscribe), channel
            for family, actions in ACTIONS.items():
                rules = TABLE["rules"][family][kind]
                asked = [it for it in actions if it in COMMANDS] if role in rules else []
                for action in asked:
                    expected = promised(rules[role], flags)
                    found = outcome(await speaker.ask(**COMMANDS[action](channel)))
                    wrong += [] if expected == found else [f"{channel} {action}: {found}, not {expected}"]
                    count += 1
                    if action == "subscribe" and found == "ok":
                        await speaker.ask(unsubscribe={"channel": channel})
            await speaker.ask(unsubscribe={"channel": channel})
    assert [] == wrong
    assert count >= 4 * len(SETS) * 2


CHAT_SETS = {
    "members": frozenset(f"allow_{it}" for it in MEMBERS),
    "nothing": frozenset[str](),
    "all but subscribing": ALL_FLAGS - {"allow_subscribe_for_client"},
    "subscribing alone": frozenset({"allow_subscribe_for_client"}),
    "all": ALL_FLAGS,
}


@pytest.mark.parametrize("name", CHAT_SETS)
async def test_cells_of_a_chat_room_over_a_socket(name: str) -> None:
    """The same options decide about the rooms of a client without an SDK: entering, speaking, looking."""
    flags, channel = CHAT_SETS[name], {"namespaces": [settings("chat", CHAT_SETS[name])]}
    rules = {family: TABLE["rules"][family]["open"] for family in FLAGS}
    enters = promised(rules["subscribe"]["user"], flags)
    role = "subscriber" if enters == "ok" else "user"
    expected = {
        "join": enters,
        "chat": promised(rules["publish"][role], flags),
        "users": promised(rules["presence"][role], flags),
        "history": promised(rules["history"][role], flags),
    }
    answers = {"join": "welcome", "chat": "chat_message", "users": "users", "history": "history"}
    async with serving(client=CLIENT, channel=channel) as node:
        bearer = {"Authorization": f"Bearer {token('carol')}"}
        async with speaking(node.url, "/ws/x", additional_headers=bearer) as speaker:
            found = {"join": await came(speaker, "join", answers["join"])}
            for request in ("chat", "users", "history"):
                await speaker.tell(type=request, **({"message": "hello"} if request == "chat" else {}))
                if request == "chat" and expected == {**expected, "chat": "ok", "join": "103"}:
                    found[request] = await unconfirmed(speaker)  # who is not in the room does not hear it
                else:
                    found[request] = await came(speaker, request, answers[request])
    assert expected == found


async def came(speaker: Speaker, request: str, answer: str) -> str:
    """Wait for the answer to a request, or for its error; return ok, or the code."""
    told = await speaker.hear(
        lambda it: it.get("type") == answer or (it.get("type") == "error" and it["request"] == request)
    )
    return str(told["code"]) if told["type"] == "error" else "ok"


async def unconfirmed(speaker: Speaker) -> str:
    """Ask something else, and return ok if no error had come by then."""
    await speaker.tell(type="ping")
    await speaker.hear(lambda it: it.get("type") == "pong")
    return "ok" if not [it for it in speaker.of("error") if it["request"] == "chat"] else "103"


FORGERIES: list[dict[str, Any]] = [
    {"info": {"user": "bob", "client": "x"}},
    {"info": {}},
    {"user": "bob"},
    {"client": "x"},
    {"sender": "bob"},
    {"offset": 1},
    {"epoch": "x"},
    {"tags": {"role": "admin"}},
]


async def test_forgeries_reach_nobody(node: Serving) -> None:
    """From a member of the channel, in both dialects: refused each time, heard by none, and what follows is honest."""
    chat = {"Authorization": f"Bearer {token('bob')}"}
    async with (
        connected(node.url, token("alice")) as alice,
        connected(node.url, token("carol")) as carol,
        speaking(node.url, "/ws/forged", additional_headers=chat) as bob,
    ):
        for it in (alice, carol):
            await it.ask(subscribe={"channel": "chat:forged"})
        for forgery in [*FORGERIES, {"time": 1}]:
            answer = await alice.ask(publish={"channel": "chat:forged", "data": {"message": "forged"}, **forgery})
            assert outcome(answer) == "103", forgery
        for number, forgery in enumerate(FORGERIES):
            await bob.tell(type="chat", message="forged", **forgery)
            await bob.tell(type="private_chat", target_user="alice", message="forged", **forgery)
            await bob.hear(lambda _, n=number: len(bob.of("error")) >= 2 * n + 2)  # type: ignore[misc] # mypy cannot infer a lambda with defaults
        await alice.ask(publish={"channel": "chat:forged", "data": {"message": "honest", "sender": "bob"}})
        heard = await bob.hear(lambda it: it.get("type") == "chat_message")
        await carol.hear(lambda it: "pub" in it.get("push", {}))
        assert {103} == {it["code"] for it in bob.of("error")}
        assert ("alice", "honest") == (heard["sender"], heard["content"])
        assert [[{"message": "honest", "sender": "bob"}]] * 2 == [it.published() for it in (alice, carol)]


@pytest.mark.parametrize(
    ("channel", "namespace"),
    [
        ("#bob", "#"),
        ("club:#bob", "#"),
        ("club:x", "club"),
        ("$club:x", "club"),
        ("club:x#bob", "club"),
        ("none:x", "none"),
        ("chat:foreign", "chat"),
        ("foreign", ""),
    ],
)
async def test_foreign_channels_get_nothing_from_outside(node: Serving, channel: str, namespace: str) -> None:
    """Who is not in a channel publishes nothing into it: its member hears only the server."""
    async with (
        connected(node.url, token("alice")) as alice,
        connected(node.url, token("bob", channels=[channel])) as bob,
    ):
        with capture_logs() as logs:
            assert outcome(await alice.ask(publish={"channel": channel, "data": "from outside"})) == "103"
        [line] = [it for it in logs if it["event"] == "permission.denied"]
        assert ("publish", namespace) == (line["action"], line["namespace"])
        await node.http.post(
            f"{node.internal}/api/publish", json={"channel": channel, "data": "inside"}, headers={"X-API-Key": "key"}
        )
        await bob.hear(lambda it: "pub" in it.get("push", {}))
        assert ["inside"] == bob.published()


async def test_refusals_are_counted_by_the_node(node: Serving) -> None:
    """The metric has every attempt, also those that are not written down."""

    async def denied() -> float:
        text = (await node.http.get(f"{node.internal}/metrics")).text
        (line,) = [it for it in text.splitlines() if it.startswith('gateway_permission_denied_total{action="publish"}')]
        return float(line.split()[-1])

    before = await denied()
    async with connected(node.url, token("dave")) as dave:
        with capture_logs() as logs:
            for _ in range(50):
                await dave.ask(publish={"channel": "#bob", "data": 1})
    assert before + 50 == await denied()
    assert len([it for it in logs if it["event"] == "permission.denied"]) <= 5
