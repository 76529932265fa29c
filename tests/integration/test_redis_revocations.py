"""Revocations on a real server: what becomes of them when it forgets, is cut off, is full, or holds rubbish."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from gateway.engines.redis import RedisEngine
from gateway.engines.redis.commands import QUIET
from gateway.engines.redis.revocations import Revocations
from gateway.errors import EngineFault
from gateway.protocol.messages import DisconnectClients, Revoke
from tests.support.engines import GENEROUS, Node, SkippingClock, eventually, good, outcome, running
from tests.support.faultproxy import COMMANDS, PUBSUB, Rule, faultproxy, publications
from tests.support.recorder import MemoryRecorder
from tests.support.valkey import Valkey

REVOKED = "gateway.control.revoked.{53t}"
STREAM = "gateway.control.stream.{53t}.commands"


@pytest.fixture(name="own_valkey")
def _own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """Return a server that the test may do anything to."""
    server = Valkey(tmp_path)
    server.start()
    yield server
    server.stop()


def revocation(session: str, *, lasts: float = 3600.0) -> Revoke:
    """Return a revocation of a session, from now on."""
    return Revoke(id=f"of {session}", until=time.time() + lasts, session_id=session)


def told(node: Node) -> list[str]:
    """Return the sessions that a node was told to bar, in order."""
    return [command.session_id for (command,) in node.sink.of("commanded") if isinstance(command, Revoke)]


async def kept(valkey: Valkey, count: int) -> None:
    """Wait until the server keeps so many."""

    async def so_many() -> bool:
        return count == int(valkey.command("ZCARD", REVOKED))

    await eventually(so_many)


async def test_a_server_that_comes_back_empty_is_given_them_again(own_valkey: Valkey) -> None:
    """All that a living node holds, more than one batch of it; whoever starts then knows it."""
    async with running(own_valkey.url) as node:
        sessions = [f"s{n}" for n in range(1200)]
        for session in sessions[:-1]:
            node.engine.control.send(revocation(session), lambda _outcome: None)
        await good(node.engine.control.send, revocation(sessions[-1]))
        await node.sink.until(lambda: len(told(node)) == len(sessions))
        own_valkey.stop()
        own_valkey.start()
        await kept(own_valkey, len(sessions))
        async with running(own_valkey.url) as late:
            assert sorted(sessions) == sorted(told(late))
        assert sessions == told(node), "nobody is told twice"


async def test_a_flush_under_standing_links_is_made_good(own_valkey: Valkey) -> None:
    """The next command shows the new epoch; without any, half a minute of silence is reason enough to look."""
    clock = SkippingClock()
    async with running(own_valkey.url, clock=clock) as node:
        await good(node.engine.control.send, revocation("s1"))
        await node.sink.until(lambda: told(node) == ["s1"])
        own_valkey.command("FLUSHALL")
        await good(node.engine.control.send, revocation("s2"))
        await kept(own_valkey, 2)
        own_valkey.command("FLUSHALL")
        clock.skip(QUIET)
        await kept(own_valkey, 2)
        assert ["s1", "s2"] == told(node)


async def test_who_read_an_empty_set_too_early_is_told_to_read_it_again(own_valkey: Valkey) -> None:
    """A node starts after the server was restarted, and before the node that knows has got back to it."""
    async with faultproxy(own_valkey.port) as proxy, running(proxy.url) as knowing:
        await good(knowing.engine.control.send, revocation("s1"))
        await knowing.sink.until(lambda: told(knowing) == ["s1"])
        with proxy.refused_all():
            own_valkey.stop()
            own_valkey.start()
            async with running(own_valkey.url) as early:
                assert [] == told(early)

                async def tried() -> bool:
                    return proxy.refused > 0

                await eventually(tried)
                proxy.refusing = False
                await early.sink.until(lambda: told(early) == ["s1"])
        assert ["s1"] == told(knowing)


@pytest.mark.parametrize("gone", [False, True], ids=["stream", "set"])
async def test_what_was_revoked_while_the_pubsub_link_was_cut(own_valkey: Valkey, gone: bool) -> None:
    """The stream tells it once the link is repaired; if it is not there any more, the set does."""
    async with faultproxy(own_valkey.port) as proxy, running(proxy.url) as node, running(own_valkey.url) as other:
        await good(other.engine.control.send, revocation("s0"))
        await node.sink.until(lambda: told(node) == ["s0"])
        with proxy.refused_all():
            proxy.cut(PUBSUB)
            await good(other.engine.control.send, revocation("s1"))
            if gone:
                own_valkey.command("XTRIM", STREAM, "MAXLEN", 0)

            async def tried() -> bool:
                return proxy.refused > 0

            await eventually(tried)
            assert ["s0"] == told(node)
        await node.sink.until(lambda: told(node) == ["s0", "s1"])


async def test_a_message_that_got_lost_is_found(own_valkey: Valkey) -> None:
    """The next one shows the gap."""
    async with faultproxy(own_valkey.port) as proxy, running(proxy.url) as node, running(own_valkey.url) as other:
        loss = Rule(way="down", only=PUBSUB, drop=publications("commands"))

        async def lost() -> bool:
            return loss.hits == 1

        with proxy.rule(loss):
            await good(other.engine.control.send, revocation("s1"))
            await eventually(lost)
        await good(other.engine.control.send, revocation("s2"))
        await node.sink.until(lambda: sorted(told(node)) == ["s1", "s2"])


async def test_a_read_that_was_broken_off_begins_again(own_valkey: Valkey) -> None:
    """The link breaks between two pages: nothing is left out."""
    async with running(own_valkey.url, command_timeout=GENEROUS) as node:
        for n in range(3000):
            node.engine.control.send(revocation(f"s{n}"), lambda _outcome: None)
        await good(node.engine.control.send, revocation("last"))
        async with faultproxy(own_valkey.port) as proxy:
            size = len(msgspec.json.encode(revocation("s0")))
            proxy.rules.append(cutting := Rule(way="down", only=COMMANDS, truncate=1500 * size))
            async with running(proxy.url, wait_ready=False) as late:

                async def cut() -> bool:
                    return not cutting.truncate

                await eventually(cut)
                proxy.rules.clear()
                await late.sink.until(lambda: len(set(told(late))) == 3001)
                assert 3001 == len(told(late))


async def test_a_rebuilt_command_link_is_reason_enough_to_look(own_valkey: Valkey) -> None:
    """It may lead to a server that lacks the last writes, without another sign of that."""
    async with faultproxy(own_valkey.port) as proxy, running(proxy.url) as node:
        await good(node.engine.control.send, revocation("s1"))
        await node.sink.until(lambda: told(node) == ["s1"])
        own_valkey.command("DEL", REVOKED)
        proxy.cut(COMMANDS)
        await kept(own_valkey, 1)
        assert 0 == node.recorder.counts["redis_reconnects", "pubsub"]


# --- when it cannot be stored


async def test_without_the_server_the_caller_is_told(own_valkey: Valkey) -> None:
    """Nobody bars anything; the same call later is carried out."""
    async with running(own_valkey.url) as node:
        own_valkey.stop()
        one = revocation("s1")
        assert isinstance(await outcome(node.engine.control.send, one), EngineFault)
        assert [] == told(node)
        own_valkey.start()

        async def sent() -> bool:
            return await outcome(node.engine.control.send, one) is None

        await eventually(sent)
        await node.sink.until(lambda: told(node) == ["s1"])


async def test_a_full_server_takes_them_all_the_same(own_valkey: Valkey) -> None:
    """Its memory must not keep anybody's session open: all nodes are told, and what it lost it is given again."""
    async with running(own_valkey.url) as node, running(own_valkey.url) as other:
        own_valkey.command("CONFIG", "SET", "maxmemory", "1")
        await good(node.engine.control.send, revocation("s1"))
        assert "oom" == (await outcome(node.engine.control.send, DisconnectClients(id="1", user="alice"))).kind
        for one in (node, other):
            await one.sink.until_count("commanded", 1)
            assert ["s1"] == told(one)
        assert 1 == int(own_valkey.command("ZCARD", REVOKED))
        own_valkey.command("DEL", REVOKED)
        _revocations(node).doubt()
        await kept(own_valkey, 1)


# --- what the set holds


async def test_what_has_ended_goes(own_valkey: Valkey) -> None:
    """A minute after its end, for clocks differ, with the next one that is stored or read; the set itself at last."""
    async with running(own_valkey.url) as node:
        now = time.time()
        for session, until in (("long ago", now - 61), ("just now", now - 30)):
            ended = Revoke(id=session, until=until, session_id=session)
            own_valkey.command("ZADD", REVOKED, repr(until), msgspec.json.encode(ended))
        await good(node.engine.control.send, revocation("s1"))
        assert 2 == int(own_valkey.command("ZCARD", REVOKED))
        assert 31 * 86_400 < int(own_valkey.command("TTL", REVOKED)) <= 32 * 86_400
        assert 0 == await _added(_revocations(node), Revoke(id="x", until=now - 61, session_id="x")), "it is no news"
        assert 2 == int(own_valkey.command("ZCARD", REVOKED))
        async with running(own_valkey.url) as late:
            assert ["s1"] == told(late)


async def test_what_is_not_ours_is_passed_over(own_valkey: Valkey) -> None:
    """Counted and logged; fields of a newer release do no harm, and what it stored is not stored again as ours."""
    newer = msgspec.json.decode(msgspec.json.encode(revocation("s1"))) | {"tenant": "t"}
    until = str(newer["until"])
    own_valkey.command("ZADD", REVOKED, until, msgspec.json.encode(newer))
    own_valkey.command("ZADD", REVOKED, until, b"rubbish")
    own_valkey.command("ZADD", REVOKED, until, b'{"type":"revoke","id":"\xff"}')
    own_valkey.command("ZADD", REVOKED, until, b'{"type":"revoke_all","id":"1"}')
    with capture_logs() as logs:
        async with running(own_valkey.url) as node:
            assert ["s1"] == told(node)
            assert node.recorder.counts["redis_foreign_payloads", ""] >= 3
    assert "redis.unknown_revocation" in {it["event"] for it in logs}
    assert 4 == int(own_valkey.command("ZCARD", REVOKED))


async def test_beyond_the_limit_those_go_that_end_soonest(own_valkey: Valkey) -> None:
    """At the server as at the node, which does not give back what the server has no room for."""
    async with running(own_valkey.url) as node:
        wrote: list[int] = []
        partition = _revocations(node)._partition
        held = Revocations(partition, carry_out=print, wall=time.time, recorder=MemoryRecorder(), limit=3)
        held.wrote = lambda: wrote.append(1)
        for n in (5, 1, 4, 2, 3):
            one = revocation(f"s{n}", lasts=1000.0 * n)
            await good(held.store, one)
            assert held.learn(one, msgspec.json.encode(one))
        stored = [
            msgspec.json.decode(it, type=Revoke).session_id for it in own_valkey.command("ZRANGE", REVOKED, 0, -1)
        ]
        assert ["s3", "s4", "s5"] == stored
        assert 3 == len(held._held)
        assert 0 == await _added(held, revocation("s0", lasts=500.0)), "it went at once"
        own_valkey.command("ZREM", REVOKED, *own_valkey.command("ZRANGE", REVOKED, 0, 0))
        for n in (6, 7):
            one = revocation(f"s{n}", lasts=1000.0 * n)
            await good(held.store, one)
        held.doubt()
        held.catch_up()
        await asyncio.wait_for(held.caught_up.wait(), GENEROUS)
        assert 3 == int(own_valkey.command("ZCARD", REVOKED))
        assert [] == wrote, "what went for want of room is not news"


async def _added(held: Revocations, one: Revoke) -> Any:
    reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    held._put([(one.until, msgspec.json.encode(one))], reply.set_result)
    return await asyncio.wait_for(reply, GENEROUS)


def _revocations(node: Node) -> Revocations:
    engine: Any = node.engine
    assert isinstance(engine, RedisEngine)
    return engine.control._revocations
