"""Tokens of a foreign OIDC issuer: a certified provider in a process of its own, beside the auth service or instead."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import jwt
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.e2e.foreign import Provider, provider
from tests.e2e.peers import bare
from tests.support.cluster import Account, Cluster
from tests.support.fleet import Process

pytestmark = pytest.mark.needs("oidc")

LOBBY = "plain:lobby"
ROLES = "https://shop.example/roles"  # as some providers make claims of their own have a URL for a name
CLIENTS: dict[str, dict[str, Any]] = {
    "alice": {"uid": "a-1", ROLES: ["admin"], "realm": {"rooms": [LOBBY]}, "locale": "eo"},
    "bob": {},
    "nosy": {"typ": "ID"},
}
INVALID, CANNOT_TELL = 3500, 100
PATIENCE = 20.0  # seconds


@pytest.fixture(name="foreign")
async def _foreign() -> AsyncIterator[Provider]:
    async with provider(CLIENTS) as it:
        yield it


@pytest.fixture(name="mapped")
def _mapped(cluster: Cluster, foreign: Provider) -> Iterator[Process]:
    """Run a node that believes the auth service and the foreign issuer, whose claims have other names."""
    entry = {
        "oidc_issuer": foreign.url,
        "algorithms": ["RS256", "ES256"],
        "user_id_claim": "uid",
        "user_id_prefix": "shop:",
        "info_claims": [ROLES, "locale", "missing"],
        "channels_claim": "realm.rooms",
    }
    with cluster.node("node-two-issuers", CLIENT__TOKEN__ISSUERS=json.dumps([entry])) as node:
        node.wait_until_ready()
        yield node


@pytest.fixture(name="foreign_only")
def _foreign_only(cluster: Cluster, foreign: Provider) -> Iterator[Process]:
    """Run a node that believes the foreign issuer alone: one setting for the other."""
    settings = {"CLIENT__TOKEN__JWKS_PUBLIC_ENDPOINT": "", "CLIENT__TOKEN__OIDC_ISSUER": foreign.url}
    with cluster.node("node-oidc", **settings) as node:
        node.wait_until_ready()
        yield node


@pytest.fixture(name="account")
async def _account(cluster: Cluster) -> Account:
    return await cluster.account("alice")


async def knock(node: Process, token: str) -> int:
    """Connect with a token; return 0, the code of the error, or that of the close."""
    async with connect(node.centrifuge_url, proxy=None) as link:
        await link.send(json.dumps({"id": 1, "connect": {"token": token}}))
        try:
            async with asyncio.timeout(PATIENCE):
                reply = json.loads(await link.recv())
        except ConnectionClosed:
            return link.close_code or 0
    return int(reply.get("error", {}).get("code", 0))


async def accepted(node: Process, token: str) -> None:
    """Connect with a token of a key that may be new: the node asks for keys once in ten seconds, and says so."""
    async with asyncio.timeout(PATIENCE):
        while (code := await knock(node, token)) == CANNOT_TELL:  # noqa: ASYNC110 - the SDKs come again, too
            await asyncio.sleep(0.2)
    assert 0 == code


def unsigned(token: str) -> tuple[Any, Any]:
    """Return header and claims."""
    return jwt.get_unverified_header(token), jwt.decode(token, options={"verify_signature": False})


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
async def test_one_setting_is_enough(foreign_only: Process, foreign: Provider, algorithm: str) -> None:
    """With nothing but the issuer's URL its access tokens are accepted, and what is meant for others is not."""
    token = await foreign.token("bob", algorithm)
    header, claims = unsigned(token)
    assert ("at+jwt", algorithm, foreign.url) == (header["typ"], header["alg"], claims["iss"])
    assert 0 == await knock(foreign_only, token)
    assert INVALID == await knock(foreign_only, await foreign.token("bob", algorithm, audience="billing"))
    assert INVALID == await knock(foreign_only, await foreign.token("nosy", algorithm))


async def test_another_issuer_is_not_believed(foreign_only: Process, account: Account) -> None:
    """With the foreign issuer alone the auth service's own tokens are worth nothing."""
    assert INVALID == await knock(foreign_only, account.access_token)


async def test_two_issuers_at_once(mapped: Process, foreign: Provider, account: Account, cluster: Cluster) -> None:
    """Users of the auth service and of the foreign issuer meet on one node; neither can speak in the other's name."""
    assert [0, 0] == [await knock(mapped, it) for it in (account.access_token, await foreign.token("alice", "ES256"))]
    assert INVALID == await knock(mapped, await foreign.token("bob"))  # who has no `uid` is not let in as nobody
    pretended = cluster.signed("admin", 600, iss=foreign.url)
    assert await knock(mapped, pretended) in (INVALID, CANNOT_TELL)
    assert INVALID == await knock(cluster.nodes[0], await foreign.token("bob"))


async def test_claims_of_other_names(mapped: Process, foreign: Provider) -> None:
    """User id, info and channels are taken from the claims that the settings name, with a prefix for the users."""
    commands = {"connect": {"token": await foreign.token("alice")}}, {"publish": {"channel": LOBBY, "data": 1}}
    async with bare(mapped.centrifuge_url, *commands) as link:
        reply = await link.take("connect")
        assert [LOBBY] == list(reply["subs"])
        said = await link.take("pub")
    assert ("shop:a-1", {ROLES: ["admin"], "locale": "eo"}) == (said["info"]["user"], said["info"]["conn_info"])


async def test_its_keys_rotate(foreign_only: Process, foreign: Provider) -> None:
    """Tokens of the old keys stay good while those are published, tokens of the new ones become so by themselves."""
    before = await foreign.token("bob")
    assert 0 == await knock(foreign_only, before)
    old = foreign.keys
    await foreign.rotate()
    assert set(old) < set(foreign.keys)
    after = await foreign.token("bob")
    assert unsigned(before)[0]["kid"] != unsigned(after)[0]["kid"]
    await accepted(foreign_only, after)
    assert 0 == await knock(foreign_only, before)
    await foreign.drop()
    await foreign.rotate()  # the keys that signed first are published no more
    await accepted(foreign_only, await foreign.token("bob", "ES256"))
    assert INVALID == await knock(foreign_only, before)
    assert 0 == await knock(foreign_only, after)
