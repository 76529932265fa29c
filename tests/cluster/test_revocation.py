"""A revocation reaches every node: those that run, one that is cut off at that moment, and those that start later."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from gateway.disconnects import FORCE_DISCONNECT, INVALID_TOKEN
from tests.support.crowd_client import CUT, Ears, Link
from tests.support.engines import eventually
from tests.support.exactness import within
from tests.support.faultproxy import PUBSUB, FaultProxy, faultproxy
from tests.support.fleet import API_KEY, Fleet, Node, fleet
from tests.support.newcomers import token
from tests.support.valkey import Valkey

WITHIN = within(5.0, otherwise=3.0)  # seconds until nobody revoked is connected anywhere
EACH = 20  # connections to a node
REVOKED = "gateway.control.revoked.{53t}"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(slots=True)
class Login:
    """One log-in of a user: its token, and the connections it opened; when each ended."""

    user: str
    session: str = field(default_factory=lambda: uuid4().hex)
    token_id: str = field(default_factory=lambda: uuid4().hex)
    links: list[Link] = field(default_factory=list)
    ended: dict[Link, float] = field(default_factory=dict)

    async def connect(self, node: Node) -> Link:
        """Connect; the link that is returned may have been refused."""
        presented = token(self.user, sid=self.session, jti=self.token_id, iat=int(time.time()) - 1)
        link = Link(node.url, presented, {}, Ears(lambda _: None, lambda _number, _message: None))
        link.lost.add_done_callback(lambda _: self.ended.setdefault(link, time.monotonic()))
        sock = socket.socket()
        sock.setblocking(False)
        with suppress(ConnectionResetError):
            await link.open(sock, 30.0)
            self.links.append(link)
        return link

    async def refused(self, node: Node) -> bool:
        """Whether a node does not let it in any more, for good."""
        link = await self.connect(node)
        assert link.closed in (CUT, INVALID_TOKEN.code)
        return link.closed == INVALID_TOKEN.code


@dataclass(slots=True)
class Scene:
    """Three nodes; the third reaches the server past a proxy."""

    valkey: Valkey
    proxy: FaultProxy
    fleet: Fleet
    http: httpx.AsyncClient
    logins: list[Login] = field(default_factory=list)

    async def log_in(self, user: str, nodes: Iterable[Node]) -> Login:
        """Log a user in and connect to these nodes, several times to each."""
        login = Login(user)
        self.logins.append(login)
        for node in nodes:
            links = await asyncio.gather(*(login.connect(node) for _ in range(EACH)))
            assert {CUT} == {it.closed for it in links}
        return login

    async def revoke(self, node: Node, **body: Any) -> float:
        """Revoke by one node; return when it was asked."""
        at = time.monotonic()
        answer = await self.http.post(f"{node.url}/api/revoke", json=body)
        assert {"result": {}} == answer.json(), answer.text
        return at

    async def closed(self, links: Iterable[Link]) -> None:
        """Wait until all of these are closed, with 3503."""
        links = list(links)
        assert links
        await asyncio.wait_for(asyncio.gather(*(asyncio.shield(it.lost) for it in links)), WITHIN)
        assert {FORCE_DISCONNECT.code} == {it.closed for it in links}


@pytest_asyncio.fixture(name="scene", scope="module", loop_scope="module")
async def _scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    folder = tmp_path_factory.mktemp("revocation")
    valkey = Valkey(folder)
    valkey.start()
    async with AsyncExitStack() as stack:
        stack.callback(valkey.stop)
        proxy = await stack.enter_async_context(faultproxy(valkey.port))
        urls = [valkey.url, valkey.url, proxy.url, valkey.url]
        ships = await stack.enter_async_context(fleet(folder, urls, CLIENT__USER_CONNECTION_LIMIT="0"))
        client = httpx.AsyncClient(trust_env=False, timeout=10.0, headers={"X-API-Key": API_KEY})
        scene = Scene(valkey, proxy, ships, await stack.enter_async_context(client))
        yield scene
        for login in scene.logins:
            for link in login.links:
                link.cut()


def shown(what: str, began: float, ends: Iterable[float]) -> None:
    """Print how long it took."""
    late = sorted(end - began for end in ends)
    print(f"{what}: median {late[len(late) // 2] * 1000:.1f} ms, last {late[-1] * 1000:.1f} ms of {len(late)}")  # noqa: T201 - figures for whoever runs it with -s


@pytest.mark.parametrize("kind", ["sid", "jti", "user"])
async def test_it_reaches_the_sockets_on_two_other_nodes(scene: Scene, kind: str) -> None:
    """All connections of the log-in end on all nodes within 5 s, and only those; none of them comes back."""
    one, two, three = scene.fleet.nodes[:3]
    hers = await scene.log_in(f"alice-{kind}", (one, two, three))
    other = await scene.log_in(f"bob-{kind}", (one, two, three))
    value = {"sid": hers.session, "jti": hers.token_id, "user": hers.user}[kind]
    began = await scene.revoke(one, **{kind: value})
    await scene.closed(hers.links)
    for number, node in enumerate((one, two, three)):
        ends = [hers.ended[it] for it in hers.links if it.node == node.url]
        assert EACH == len(ends)
        shown(f"{kind}, {'asked node' if number == 0 else 'other node'}", began, ends)
    assert [True] * 3 == [await hers.refused(node) for node in (one, two, three)]
    assert not other.ended


async def test_it_reaches_a_node_whose_pubsub_link_was_cut_at_that_moment(scene: Scene) -> None:
    """The others are told at once; the one that is cut off, as soon as its link is repaired."""
    one, two, three = scene.fleet.nodes[:3]
    hers, his = await scene.log_in("carol", (one, two, three)), await scene.log_in("dave", (three,))
    cut_off = [it for it in hers.links if it.node == three.url]
    reachable = [it for it in hers.links if it.node != three.url]
    with scene.proxy.refused_all():
        scene.proxy.cut(PUBSUB)
        began = await scene.revoke(two, sid=hers.session)
        await scene.closed(reachable)

        async def tried() -> bool:
            return scene.proxy.refused > 0

        await eventually(tried)
        assert not any(it.lost.done() for it in cut_off), "it heard of it in some other way"
    repaired = time.monotonic()
    await scene.closed(cut_off)
    shown("others, while one is cut off", began, (hers.ended[it] for it in reachable))
    shown("the one that was cut off, from its repair on", repaired, (hers.ended[it] for it in cut_off))
    assert await hers.refused(three)
    assert not his.ended


async def test_it_is_known_to_a_node_that_starts_later_and_after_a_restart(scene: Scene) -> None:
    """The first connect to either is refused; others are let in."""
    two = scene.fleet.nodes[1]
    hers, other = await scene.log_in("erin", ()), await scene.log_in("frank", ())
    await scene.revoke(two, sid=hers.session)
    late = scene.fleet.start("node-late")
    two.kill()
    two.restart()
    for node in (late, two):
        await node.ready()
        assert await hers.refused(node)
        assert not await other.refused(node)


async def test_it_outlives_a_server_that_is_restarted_empty(scene: Scene) -> None:
    """A node that lives gives it back, and whoever starts then knows it; living nodes never forgot."""
    one, two = scene.fleet.nodes[:2]
    hers = await scene.log_in("grace", ())
    await scene.revoke(one, sid=hers.session)
    before = int(scene.valkey.command("ZCARD", REVOKED))
    assert before > 0
    scene.valkey.stop()
    assert [True, True] == [await hers.refused(one), await hers.refused(two)]
    scene.valkey.start()
    began = time.monotonic()

    async def given_back() -> bool:
        return before == int(scene.valkey.command("ZCARD", REVOKED))

    await eventually(given_back)
    shown(f"{before} revocations given back to an empty server", began, [time.monotonic()])
    two.kill()
    two.restart()
    await two.ready()
    assert await hers.refused(two)
    assert await hers.refused(one)
