"""Tokens that end while their connection lives, on real sockets and by the real clock: notice, refresh, 3005."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.exactness import within
from tests.support.fleet import SECRET
from tests.support.newcomers import token
from tests.support.serving import Serving, serving
from tests.support.speaking import Speaker, connected, outcome, speaking

LIFE, DELAY = 5, 1  # seconds of a token, and from its end to the close
LATE = within(1.0, otherwise=5.0)  # seconds that the close may be late
OPTIONS = {"allow_subscribe_for_client": True, "allow_publish_for_client": True}
DIALECTS = ["chat", "notifications", "centrifuge"]


@asynccontextmanager
async def node_of(delay: float) -> AsyncIterator[Serving]:
    """Run a node that gives so many seconds after the end of a token."""
    client = {
        "token": {"hmac_secret_key": SECRET, "leeway": "0s"},
        "expired_close_delay": f"{delay}s",
        "expired_sub_close_delay": f"{delay}s",
    }
    spaces = [{"name": "news", **OPTIONS}, {"name": "vip", "allow_publish_for_subscriber": True}]
    async with serving(client=client, channel={"namespaces": spaces}) as it:
        yield it


@pytest.fixture(name="node")
async def _node() -> AsyncIterator[Serving]:
    async with node_of(DELAY) as it:
        yield it


def ending(life: int) -> tuple[int, str]:
    """Return the end of a token of Alice that lives so long, and the token."""
    end = int(time.time()) + life
    return end, token("alice", exp=end)


@asynccontextmanager
async def somebody(node: Serving, dialect: str, presented: str) -> AsyncIterator[Speaker]:
    """Connect with a token in a dialect; entered when the connection is open."""
    if dialect == "centrifuge":
        async with connected(node.url, presented) as speaker:
            yield speaker
        return
    bearer = {"Authorization": f"Bearer {presented}"}
    async with speaking(node.url, "/ws/x", subprotocols=[dialect], additional_headers=bearer) as speaker:
        await speaker.tell(type="ping")
        await speaker.hear(lambda it: it.get("type") == "pong")
        yield speaker


async def refresh(speaker: Speaker, dialect: str, presented: str) -> Any:
    """Present a new token in place; return the seconds that it is told to live, or how it was refused."""
    if dialect == "centrifuge":
        answer = await speaker.ask(refresh={"token": presented})
        return answer["refresh"]["ttl"] if "refresh" in answer else outcome(answer)
    await speaker.tell(type="auth", token=presented)
    answer = await speaker.hear(lambda it: it.get("type") in {"refreshed", "error"})
    return answer.get("expires_in") or outcome(answer)


@pytest.mark.parametrize(
    ("life", "delay"),
    [(LIFE, DELAY), pytest.param(20, 5, marks=pytest.mark.soak)],
)
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_token_that_is_not_refreshed_ends_the_connection(dialect: str, life: int, delay: int) -> None:
    """With 3005, the delay after its end and at most a second later; a plain client was told before."""
    async with node_of(delay) as node:
        end, presented = ending(life)
        async with somebody(node, dialect, presented) as speaker:
            if dialect != "centrifuge":
                told = await speaker.hear(lambda it: it.get("type") == "expiring")
                assert 0 <= told["in"] <= life
            speaker.patience += life + delay
            assert 3005 == await speaker.closed()
        assert end + delay <= speaker.closed_at <= end + delay + LATE


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_fresh_token_in_place_keeps_the_connection(node: Serving, dialect: str) -> None:
    """It outlives another one that was opened later with the same token and did nothing."""
    end, presented = ending(LIFE)
    async with somebody(node, dialect, presented) as speaker, somebody(node, dialect, presented) as idle:
        assert 50 <= await refresh(speaker, dialect, token("alice", exp=end + 60)) <= 60 + LIFE
        assert 3005 == await idle.closed()
        asked = {"id": 99, "presence": {"channel": "news:x"}} if dialect == "centrifuge" else {"type": "ping"}
        last = len(speaker.heard)
        await speaker.tell(**asked)
        await speaker.hear(lambda it: it.get("id") == 99 or it.get("type") == "pong", last)
        assert 0.0 == speaker.closed_at


@pytest.mark.parametrize("dialect", ["chat", "notifications"])
async def test_a_minute_before_the_end_a_client_is_told(node: Serving, dialect: str) -> None:
    """`expiring` comes 60 s before, not sooner; once refreshed, the next token counts."""
    end, presented = ending(64)
    async with somebody(node, dialect, presented) as speaker:
        assert [] == speaker.of("expiring")
        told = await speaker.hear(lambda it: it.get("type") == "expiring")
        assert 60 - LATE < told["in"] <= 60
        assert -0.1 < time.time() - (end - 60) < LATE
        await refresh(speaker, dialect, token("alice", exp=end + 1))
        await speaker.hear(lambda _: len(speaker.of("expiring")) == 2)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"sub": "bob"}, "3500"),
        ({"aud": "other"}, "3500"),
        ({"channel": "news:x"}, "3500"),
        ({"exp": 1_000_000_000}, "3005"),
        ({"channels": ["news:x"]}, "3010"),
    ],
)
async def test_a_token_that_does_not_fit_ends_the_connection(
    node: Serving, dialect: str, claims: dict[str, Any], expected: str
) -> None:
    """Another user, audience or kind for good, an old one and other rights so that the client comes again."""
    async with somebody(node, dialect, token("alice")) as speaker:
        assert expected == await refresh(speaker, dialect, token("alice", **claims))


# --- rights that come and go


async def test_a_right_that_was_taken_away_ends_at_the_refresh(node: Serving) -> None:
    """The connection ends, the next one by the new token is not in the channel, and hears nothing of it."""
    first, second = token("alice", channels=["vip:x", "news:x"]), token("alice", channels=["news:x"])
    async with connected(node.url, token("bob", channels=["vip:x"])) as bob:
        async with connected(node.url, first) as alice:
            assert "ok" == outcome(await alice.ask(publish={"channel": "vip:x", "data": 1}))
            assert "3010" == outcome(await alice.ask(refresh={"token": second}))
        async with connected(node.url, second) as alice:
            assert ["news:x"] == list(alice.heard[0]["connect"]["subs"])
            assert "103" == outcome(await alice.ask(publish={"channel": "vip:x", "data": 2}))
            assert "103" == outcome(await alice.ask(subscribe={"channel": "vip:x"}))
            await bob.ask(publish={"channel": "vip:x", "data": 3})
            await bob.ask(publish={"channel": "news:x", "data": "the end"})
            await alice.hear(lambda _: "the end" in alice.published())
            assert ["the end"] == alice.published()
        assert [1, 3] == bob.published()


async def test_a_right_that_was_given_comes_with_the_refresh(node: Serving) -> None:
    """The same way: the client comes again, and is in."""
    first, second = token("alice"), token("alice", channels=["vip:x"])
    async with connected(node.url, first) as alice:
        assert "103" == outcome(await alice.ask(subscribe={"channel": "vip:x"}))
        assert "3010" == outcome(await alice.ask(refresh={"token": second}))
    async with connected(node.url, second) as alice:
        assert "ok" == outcome(await alice.ask(publish={"channel": "vip:x", "data": 1}))


# --- subscriptions


async def test_a_subscription_ends_with_its_token_and_lives_on_with_another(node: Serving) -> None:
    """2501 after the delay to who brings no fresh token; the connection stays; who brings one stays in the channel."""
    end = int(time.time()) + LIFE
    subscribe = {"channel": "$vip:x", "token": token("alice", channel="$vip:x", exp=end)}
    async with connected(node.url, token("alice")) as idle, connected(node.url, token("alice")) as active:
        for it in (idle, active):
            assert 1 <= (await it.ask(subscribe=subscribe))["subscribe"]["ttl"] <= LIFE
        fresh = token("alice", channel="$vip:x", exp=end + 60)
        answer = await active.ask(sub_refresh={"channel": "$vip:x", "token": fresh})
        assert 50 <= answer["sub_refresh"]["ttl"] <= 60 + LIFE
        told = await idle.hear(lambda it: "unsubscribe" in it.get("push", {}))
        assert 2501 == told["push"]["unsubscribe"]["code"]
        assert end + DELAY <= time.time() <= end + DELAY + LATE
        assert "103" == outcome(await idle.ask(publish={"channel": "$vip:x", "data": 1}))
        assert "ok" == outcome(await active.ask(publish={"channel": "$vip:x", "data": 1}))


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"sub": "bob"}, "3500"),
        ({"channel": "$vip:y"}, "3500"),
        ({"channel": None}, "3500"),
        ({"client": "another"}, "3500"),
        ({"exp": 1_000_000_000}, "109"),
        ({"override": {"presence": {"value": True}}}, "ok"),
    ],
)
async def test_a_subscription_token_that_does_not_fit(node: Serving, claims: dict[str, Any], expected: str) -> None:
    """Somebody else's ends the connection, an old one is refused; one with other options sends to subscribe again."""
    good = {"channel": "$vip:x"}
    async with connected(node.url, token("alice")) as alice:
        await alice.ask(subscribe={"channel": "$vip:x", "token": token("alice", **good)})
        told = {it: value for it, value in {**good, **claims}.items() if value is not None}
        answer = await alice.ask(sub_refresh={"channel": "$vip:x", "token": token("alice", **told)})
        assert expected == outcome(answer)
        if expected == "ok":
            push = await alice.hear(lambda it: "unsubscribe" in it.get("push", {}))
            assert 2500 == push["push"]["unsubscribe"]["code"]
            again = await alice.ask(subscribe={"channel": "$vip:x", "token": token("alice", **told)})
            assert "ok" == outcome(again)
