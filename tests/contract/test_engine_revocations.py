"""Every engine keeps revocations as `contracts.control.ControlBus` says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from gateway.protocol.messages import DisconnectClients, Revoke
from tests.contract.conftest import SHARED, parametrised, patient
from tests.support.engines import Node, good

Pair = tuple[Node, Node]


def revocation(session: str, *, lasts: float = 3600.0, **fields: Any) -> Revoke:
    """Return a revocation of a session, from now on."""
    return Revoke(id=f"of {session}", until=time.time() + lasts, session_id=session, **fields)


def told(node: Node) -> list[Revoke]:
    """Return what a node was told to bar, in order."""
    return [command for (command,) in node.sink.of("commanded") if isinstance(command, Revoke)]


async def test_a_revocation_reaches_its_sender_with_every_field(node: Node) -> None:
    """Whoever sends it carries it out, too."""
    until = time.time() + 60.25
    sent = [
        Revoke(id="1", until=until, token_id="ü" * 200, code=4001, reason='a "reason"'),
        Revoke(id="2", until=until, key_id="k"),
        Revoke(id="3", until=until, user="alice", issued_before=1_800_000_000),
        Revoke(id="4", until=until, session_id="s"),
    ]
    for one in sent:
        assert await good(node.engine.control.send, one) is None
    await node.sink.until(lambda: len(told(node)) >= len(sent))
    assert sent == told(node)


async def test_a_revocation_sent_again_is_carried_out_once(node: Node) -> None:
    """The caller repeats what was not answered; the id says that it is the same."""
    again, end = revocation("again"), DisconnectClients(id="end", user="b")
    for command in (again, again, end):
        await good(node.engine.control.send, command)
    await node.sink.until(lambda: (end,) in node.sink.of("commanded"))
    assert [again] == told(node)


async def test_a_revocation_reaches_both_nodes(pair: Pair) -> None:
    """The other one is told, once."""
    sent = [revocation(f"s{n}") for n in range(20)]
    for n, one in enumerate(sent):
        await good(pair[n % 2].engine.control.send, one)
    for node in pair:
        await node.sink.until_count("commanded", len(sent))
        assert sent == told(node)


# --- engines that join several nodes


@pytest.fixture(name="url", params=parametrised(SHARED))
def _url(request: pytest.FixtureRequest, url_of: Callable[[str], str]) -> str:
    """Return where the engine finds its servers."""
    return url_of(request.param)


async def test_a_node_that_starts_later_knows_what_was_revoked(url: str, engine_prefix: str) -> None:
    """Before it is ready it was told all that has not ended, once; commands that end nothing are not for it."""
    async with patient(url, prefix=engine_prefix) as early:
        over = revocation("over", lasts=0.05)
        sent = [over, *(revocation(f"s{n}") for n in range(2500))]
        for one in sent:
            early.engine.control.send(one, lambda _outcome: None)
        await good(early.engine.control.send, DisconnectClients(id="end", user="b"))
        await early.sink.until(lambda: len(told(early)) >= len(sent) - 1)
        await asyncio.sleep(over.until - time.time())
        async with patient(url, prefix=engine_prefix) as late:
            expected = {one.session_id for one in sent} - {"over"}
            assert expected == {one.session_id for one in told(late)}
            assert len(expected) == len(late.sink.of("commanded"))


async def test_what_a_node_was_told_at_its_start_is_not_told_again(url: str, engine_prefix: str) -> None:
    """The set and the stream hold the same; a later one comes as ever."""
    async with patient(url, prefix=engine_prefix) as early:
        first, second = revocation("s1"), revocation("s2")
        await good(early.engine.control.send, first)
        async with patient(url, prefix=engine_prefix) as late:
            await good(late.engine.control.send, first)
            await good(early.engine.control.send, second)
            await late.sink.until(lambda: second in told(late))
            assert [first, second] == told(late)
            await early.sink.until(lambda: second in told(early))
            assert [first, second] == told(early)
