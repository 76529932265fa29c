"""What a load balancer is told while Redis comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.tokens import verifier
from tests.support.faultproxy import faultproxy
from tests.support.fleet import SECRET
from tests.support.newcomers import token
from tests.support.rawsocket import CLOSE, DEADLINE, TEXT, RawSocket
from tests.support.serving import KEY, Guest, Serving, guest, serving
from tests.support.valkey import Valkey


async def until(node: Serving, told: Callable[[int, Any], bool]) -> Any:
    """Ask until the node says this; return the body. It must be alive all the while."""
    async with asyncio.timeout(DEADLINE):
        while True:
            status, body = await node.ready()
            assert 200 == (await node.http.get(f"{node.internal}/health/live")).status_code
            if told(status, body):
                return body
            await asyncio.sleep(0.02)


async def test_redis_decides_about_a_node_only_until_it_has_been_there(tmp_path: Path) -> None:
    """Never connected: not ready. Connected once: ready, and what does not work is listed while Redis is away.

    An outage that all nodes share would else empty the list of endpoints, and mend nothing.
    """
    valkey = Valkey(tmp_path)
    try:
        async with serving(engine=valkey.url) as node:
            missing = await until(node, lambda status, _: status == 503)
            assert "not ready" == missing["status"]
            assert any(str(valkey.port) in line for line in missing["faults"])
            valkey.start()
            assert {"status": "ok"} == await until(node, lambda status, body: status == 200 and "degraded" not in body)
            valkey.stop()
            away = await until(node, lambda status, body: status != 200 or "degraded" in body)
            assert "ok" == away["status"]
            assert any(str(valkey.port) in line for line in away["degraded"])
            client = await guest(node.url)  # connections without subscriptions need no Redis
            client.socket.close()
            valkey.start()
            assert {"status": "ok"} == await until(node, lambda status, body: status == 200 and "degraded" not in body)
    finally:
        valkey.stop()


async def test_a_node_that_starts_lets_nobody_in_who_was_revoked_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its port is open before Redis has told it what is revoked: a token waits that long, and is judged then."""
    monkeypatch.setattr(verifier, "INFORMED_SECONDS", DEADLINE)
    valkey = Valkey(tmp_path)
    client = {"token": {"hmac_secret_key": SECRET}}
    valkey.start()
    try:
        async with serving(engine=valkey.url, client=client) as before, faultproxy(valkey.port) as proxy:
            await before.until_ready()
            answered = await before.http.post(
                f"{before.internal}/api/revoke", json={"sid": "over"}, headers={"X-API-Key": KEY}
            )
            assert {"result": {}} == answered.json()
            proxy.refusing = True
            async with serving(engine=proxy.url, client=client) as late:
                sockets = [await RawSocket.websocket(late.url, "/connection/websocket") for _ in range(2)]
                for socket, session in zip(sockets, ("over", "live"), strict=True):
                    asked = Guest(socket).ask(id=1, connect={"token": token("alice", sid=session)})
                    await socket.send(asked)
                await until(late, lambda status, _: status == 503)
                proxy.refusing = False
                barred, let_in = [await socket.frame() for socket in sockets]
                assert (CLOSE, 3500) == (barred.opcode, barred.code)
                assert TEXT == let_in.opcode
                assert b'"client"' in let_in.payload
                for socket in sockets:
                    socket.close()
    finally:
        valkey.stop()
