"""The user that we deploy for the gateway, in a real Valkey; tests/contract/ runs the engine's whole suite as him."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError, ResponseError

from gateway.protocol.values import PublishOptions
from gateway.types import Channel
from tests.support.engines import Node, eventually, good, running
from tests.support.exactness import within
from tests.support.ports import free_port
from tests.support.restricted import PASSWORD, USERS, Restricted
from tests.support.valkey import Valkey

ROOT = Path(__file__).parent.parent.parent
ENGINE = ROOT / "gateway" / "engines" / "redis"
ROOM = Channel("chat:lobby")
KEPT = PublishOptions(history_size=10, history_ttl=60.0, history_meta_ttl=600.0)


def deployed() -> list[str]:
    """Return the words of the line that makes the gateway's user."""
    return next(it for it in USERS.read_text(encoding="utf-8").splitlines() if it.startswith("user gateway ")).split()


@pytest.fixture(scope="module", name="server")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restricted]:
    server = Restricted(tmp_path_factory.mktemp("restricted"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(name="gateway")
def _gateway(server: Restricted) -> Iterator[Any]:  # redis-py does not say what its commands take
    with Redis(port=server.port, username="gateway", password=PASSWORD, single_connection_client=True) as link:
        yield link


@pytest.mark.parametrize(
    "command",
    [
        "FLUSHALL", "FLUSHDB", "KEYS *", "SCAN 0", "RANDOMKEY", "DBSIZE", "SWAPDB 0 1", "SAVE", "SHUTDOWN",
        "CONFIG GET maxmemory", "CONFIG SET maxmemory 1", "ACL LIST", "ACL SETUSER eve on nopass +@all",
        "MONITOR", "CLIENT LIST", "CLIENT KILL TYPE pubsub", "REPLICAOF NO ONE", "MODULE LIST", "SCRIPT FLUSH",
        "FUNCTION LIST", "PSUBSCRIBE *", "PUBSUB CHANNELS", "EVAL return(1) 0", "GET gateway.a", "PING",
        "RENAME gateway.a gateway.b", "XTRIM gateway.a MAXLEN 0",
    ],
)  # fmt: skip
def test_what_is_not_needed_is_refused(gateway: Any, command: str) -> None:
    """Whoever steals the password cannot empty, stop, reconfigure or look through the server."""
    with pytest.raises(NoPermissionError, match="no permissions to run"):
        gateway.execute_command(*command.split())


@pytest.mark.parametrize(
    "command", ["HSET other.a k v", "SET used 1 NX", "DEL session:1", "PUBLISH other.a x", "SUBSCRIBE other.a"]
)
def test_names_of_others_are_refused(gateway: Any, command: str) -> None:
    """What else lies on the server can be neither read, changed nor heard."""
    with pytest.raises(NoPermissionError, match=r"No permissions to access a (key|channel)"):
        gateway.execute_command(*command.split())


def test_scripts_are_held_to_the_same_rights(gateway: Any) -> None:
    """A script that somebody loads reaches no further than its caller: neither names nor commands."""
    for script in ("return redis.call('HSET', 'other.a', 'k', 'v')", "return redis.call('FLUSHALL')"):
        sha = gateway.script_load(script)
        with pytest.raises(ResponseError, match=r"ACL failure in script"):
            gateway.evalsha(sha, 0)


@pytest.mark.parametrize("command", ["INFO", "HGETALL gateway.a", "PUBLISH gateway.a x", "ROLE", "COMMAND"])
def test_nobody_without_a_password_may_do_anything(server: Restricted, command: str) -> None:
    """The default user answers the probes of the pod, which is all that it is for."""
    assert server.command("PING")
    with pytest.raises(NoPermissionError):
        server.command(*command.split())


def test_the_server_runs_by_its_settings(gateway: Any) -> None:
    """The file is taken as it is: nothing is evicted or written to a disk, and buffers are bounded on purpose."""
    facts = gateway.info()
    assert ("noeviction", 0, 192 * 2**20) == (facts["maxmemory_policy"], facts["aof_enabled"], facts["maxmemory"])
    settings = (USERS.parent / "valkey.conf").read_text(encoding="utf-8")
    assert "\nclient-output-buffer-limit pubsub " in settings


async def test_a_node_works_as_this_user(server: Restricted) -> None:
    """A node hears what another one publishes with history, under the prefix that is the default."""
    async with running(server.url, prefix="gateway") as one, running(server.url, prefix="gateway") as two:
        await good(two.engine.broker.subscribe, ROOM)
        await good(one.engine.broker.publish, ROOM, b"{}", KEPT)
        await two.sink.until(lambda: two.sink.of("published"))
        assert [b"{}"] == two.sink.data(ROOM)


async def test_nothing_that_the_engine_does_is_denied(tmp_path: Path) -> None:
    """No entry in the server's log of refusals, and a demotion is found out by a write, without waiting for ROLE."""
    server = Valkey(tmp_path)
    server.start()
    try:
        server.command("ACL", "SETUSER", *deployed()[1:])
        async with running(f"redis://gateway:{PASSWORD}@127.0.0.1:{server.port}/0", prefix="gateway") as node:
            await good(node.engine.broker.publish, ROOM, b"{}", KEPT)
            await eventually(lambda: probed(node, 2))
            assert [] == server.command("ACL", "LOG")
            server.command("REPLICAOF", "127.0.0.1", free_port())
            async with asyncio.timeout(within(3.0, otherwise=2.0)):
                await eventually(lambda: demoted(node))
    finally:
        server.stop()


async def probed(node: Node, times: int) -> bool:
    """Say whether so many probes have come in."""
    return times <= [name for name, _ in node.recorder.observations].count("redis_pubsub_probe_rtt")


async def demoted(node: Node) -> bool:
    """Say whether the node has left a server that is a replica by now."""
    return any("is a replica" in line for line in node.engine.outages())


def test_every_right_is_used() -> None:
    """No command is allowed that neither the engine nor a script of it names."""
    source = "".join(it.read_text(encoding="utf-8") for it in (*ENGINE.glob("*.py"), *ENGINE.glob("scripts/*.lua")))
    allowed = [it[1:].partition("|")[0].upper() for it in deployed() if it.startswith("+")]
    assert len(allowed) > 30
    assert [] == [it for it in allowed if f'"{it}"' not in source]


def test_the_documentation_names_the_same_rights() -> None:
    """docs/topics/redis.md shows the line that is deployed, but for the password."""
    text = (ROOT / "docs" / "topics" / "redis.md").read_text(encoding="utf-8")
    shown = re.search(r"```\n(user gateway .*?)\n```", text, re.DOTALL)
    assert shown is not None
    assert " ".join(deployed()).replace(PASSWORD, "password").split() == shown[1].replace("\\\n", " ").split()
