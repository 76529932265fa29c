from __future__ import annotations

import asyncio
from hashlib import sha256

import pytest
from structlog.testing import capture_logs

from gateway.denials import BURST
from gateway.types import Identity, UserId
from tests.support.node import ROOM, running_node

FOREIGN, HERS = "$chat:secret", "#bob"


async def test_an_attempt_is_counted_and_written_down() -> None:
    """One line with who and what, in words that tell nobody the user or the channel; the client is told 103."""
    async with running_node() as world:
        client = await world.opened("alice")
        with capture_logs() as logs:
            ref = client.subscribe(FOREIGN)
            await world.settled()
        assert client.reply(ref)["error"]["code"] == 103
        [line] = logs
        assert {
            "event": "permission.denied",
            "log_level": "warning",
            "action": "subscribe",
            "namespace": "chat",
            "user": sha256(b"alice").hexdigest()[:12],
            "connection": client.connection.id,
            "request_id": client.link.peer.request_id,
            "unwritten": 0,
        } == line
        assert world.recorder.counts["permission_denied", "subscribe"] == 1


@pytest.mark.parametrize("user", ["", "ålice", "\ud83d", "a" * 500])
async def test_whatever_a_user_is_called(user: str) -> None:
    """The line is written, also for who has no name, or one that is no text."""
    async with running_node(anonymous=True) as world:
        world.tokens.identities["t"] = Identity(UserId(user))
        client = await world.opened("t")
        with capture_logs() as logs:
            client.publish({}, HERS)
        assert [12 if user else 0] == [len(it["user"]) for it in logs]


async def test_a_forged_publication_reaches_nobody() -> None:
    """Neither its author nor another member gets it, whatever it was forged with; what is honest goes through."""
    async with running_node() as world:
        alice, bob = await world.opened("alice", ROOM), await world.opened("bob", ROOM)
        forged = ({"info": {"user": "bob"}}, {"offset": 99}, {"epoch": "x"}, {"tags": {"a": "b"}}, {"user": "bob"})
        refs = [alice.ask(publish={"channel": ROOM, "data": "forged", **it}) for it in forged]
        alice.publish("honest")
        await world.settled()
        assert [103] * len(forged) == [alice.reply(ref)["error"]["code"] for ref in refs]
        assert [["honest"]] * 2 == [it.published() for it in (alice, bob)]
        assert len(forged) == world.recorder.counts["permission_denied", "publish"]


async def test_a_flood_does_not_fill_the_log() -> None:
    """A thousand attempts are a few lines; all are counted, by the metric and in the connection's last line."""
    async with running_node() as world:
        client = await world.opened("alice")
        with capture_logs() as logs:
            for _ in range(1000):
                client.publish({}, HERS)
                await asyncio.sleep(0)
            assert BURST == len(logs)
            world.clock.advance(60.0)
            client.publish({}, HERS)
            assert [0] * BURST + [1000 - BURST] == [it["unwritten"] for it in logs]
            client.link.hang_up()
        assert world.recorder.counts["permission_denied", "publish"] == 1001
        assert [1001] == [it["denied"] for it in logs if it["event"] == "connection.closed"]
        assert 0 == len(client.connection.shell.denials)


async def test_who_never_tried_anything_has_a_clean_last_line() -> None:
    """The usual connection."""
    async with running_node() as world:
        client = await world.opened("alice", ROOM)
        with capture_logs() as logs:
            client.link.hang_up()
        assert [0] == [it["denied"] for it in logs if it["event"] == "connection.closed"]


async def test_somebody_elses_token_is_written_down_before_the_end() -> None:
    """The line is there although the connection closes with it."""
    async with running_node() as world:
        client = await world.opened("alice")
        with capture_logs() as logs:
            client.ask(refresh={"token": "bob"})
        assert client.link.code == 3500
        assert [("permission.denied", "refresh")] == [(it["event"], it.get("action")) for it in logs][:1]
