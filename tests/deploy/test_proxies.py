"""The proxy in front: real nginx and Traefik with our files, two real nodes and a real auth service behind them."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from tests.support import site as sites
from tests.support.engines import eventually
from tests.support.fleet import API_KEY, HOST
from tests.support.fronts import Front
from tests.support.ports import free_port
from tests.support.site import PER_ADDRESS, Backend, Site, bearer, status

HIDDEN = [
    ("GET", "/metrics"),
    ("GET", "/health/live"),
    ("GET", "/health/ready"),
    ("GET", "/docs"),
    ("GET", "/redoc"),
    ("GET", "/openapi.json"),
    ("POST", "/api"),
    ("POST", "/api/info"),
    ("POST", "/api/publish"),
    ("POST", "/api/disconnect"),
    ("POST", "/api/revoke"),
    ("POST", "/api/drain"),
]
DISGUISES = [
    "/metrics/",
    "//metrics",
    "/./metrics",
    "/%6detrics",
    "/METRICS",
    "/metrics;x=1",
    "/metrics?x=1",
    "/ws/../metrics",
    "/ws/..%2fmetrics",
    "/ws/%2e%2e/metrics",
    "/connection/../metrics",
    "/connection/websocket/../../metrics",
    "/sessions/../metrics",
    "/sessions/..%2f..%2fmetrics",
    "/.well-known/../metrics",
    "/.well-known/jwks.json/../../metrics",
    "/index.html/../metrics",
    "/index.html%2f..%2fmetrics",
    "/ws\\..\\metrics",
    "/login/../health/ready",
    "/login%2f..%2fhealth%2fready",
    "/.env",
    "/app.py",
    "/../../../../etc/passwd",
    "/ws/%00",
]
PUBLIC = [
    ("GET", "/", 200),
    ("GET", "/index.html", 200),
    ("GET", "/app.js", 200),
    ("GET", "/style.css", 200),
    ("GET", "/icon.svg", 200),
    ("GET", "/demo.json", 200),
    ("GET", "/.well-known/jwks.json", 200),
    ("GET", "/me", 401),
    ("GET", "/sessions", 401),
    ("POST", "/ticket", 401),
    ("POST", "/login", 400),
    ("POST", "/tokens/subscription", 401),
    ("GET", "/nothing.js", 404),
]


# --- which paths


async def test_what_is_for_operators_is_not_there(site: Site) -> None:
    """The server API with its key, metrics, health and documentation are 404 through the proxy, however disguised."""
    key = f"X-API-Key: {API_KEY}"
    for method, path in HIDDEN:
        assert await site.status(method, path, key) == 404, path
    for path in DISGUISES:
        assert await site.status("GET", path, key) in {400, 404}, path


async def test_what_is_for_operators_is_not_on_the_public_port_either(site: Site) -> None:
    """Should somebody get past the proxy: the port that it knows serves nothing of it. The internal port does."""
    key = f"X-API-Key: {API_KEY}"
    for node, internal in zip(site.nodes, site.backend.internal, strict=True):
        for method, path in HIDDEN:
            assert await status(node.port, method, path, key) == 404, path
        for path in DISGUISES:
            assert await status(node.port, "GET", path, key) in {400, 403, 404}, path
        assert await status(internal, "GET", "/metrics") == 200
        assert await status(internal, "GET", "/openapi.json") == 200


async def test_what_is_for_everybody_is_there(site: Site) -> None:
    """The page comes from a node, log-in and keys from the auth service."""
    found = [(m, p, await site.status(m, p)) for m, p, _ in PUBLIC]
    assert PUBLIC == found


async def test_plain_http_leads_to_the_page_and_takes_nothing_along(site: Site) -> None:
    """Whoever came without TLS comes to the front door: nothing of the address is repeated."""
    async with httpx.AsyncClient(trust_env=False, timeout=30.0) as http:
        answer = await http.get(f"http://{HOST}:{site.front.plain_port}/ws?token=abc", headers={"Host": "here"})
        refused = await http.get(f"http://{HOST}:{site.front.plain_port}/ws", headers={"Upgrade": "websocket"})
    assert (301, "https://here/") == (answer.status_code, answer.headers["location"])
    assert refused.status_code in {403, 404}, "what a WebSocket without TLS carries, others have read"


async def test_old_tls_is_refused(site: Site) -> None:
    """TLS 1.2 and 1.3 are spoken, 1.1 is not, whatever the client would take."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        site.front.trust.maximum_version = site.front.trust.minimum_version = version
        assert await site.status("GET", "/") == 200
    site.front.trust.minimum_version, site.front.trust.maximum_version = (
        ssl.TLSVersion.TLSv1_2,
        ssl.TLSVersion.MAXIMUM_SUPPORTED,
    )
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        await asyncio.open_connection(HOST, site.front.port, ssl=old)


# --- WebSockets


async def test_chat_through_the_proxy_on_both_nodes(site: Site) -> None:
    """Connections are spread over the nodes; what one says the other hears, whichever way its token came."""
    alice, bob = await site.cluster.account("alice"), await site.cluster.account("bob")
    async with (
        site.chatting("/ws/proxied", additional_headers=bearer(alice)) as mine,
        site.chatting("/ws/proxied", subprotocols=["chat", f"bearer.{bob.access_token}"]) as theirs,
    ):
        async with asyncio.timeout(20):
            welcomes = [json.loads(await it.recv()) for it in (mine, theirs)]
        assert {alice.user, bob.user} == {it["user"] for it in welcomes}
        assert {"node-1", "node-2"} == {it["node"] for it in welcomes}
        assert theirs.subprotocol == "chat"
        await mine.send("through the wall")
        async with asyncio.timeout(20):
            while json.loads(await theirs.recv()).get("content") != "through the wall":
                pass


async def test_a_page_of_this_very_host_may_connect_and_no_other(site: Site) -> None:
    """The nodes see the host that the browser asked for, with its port."""
    alice = await site.cluster.account("alice")
    own = f"https://{HOST}:{site.front.port}"
    async with site.chatting(origin=own, additional_headers=bearer(alice)) as link:
        async with asyncio.timeout(20):
            assert json.loads(await link.recv())["user"] == alice.user
    for origin in (f"https://{HOST}", f"https://{HOST}:{site.front.port + 1}", "https://evil.io"):
        with pytest.raises(InvalidStatus) as refused:
            async with site.chatting(origin=origin, additional_headers=bearer(alice)):
                pass
        assert refused.value.response.status_code == 403


async def test_other_protocols_are_not_upgraded(site: Site) -> None:
    """Only a WebSocket is: the rest arrives as the plain request that it is."""
    for protocol in ("h2c", "websocket, h2c", "TLS/1.0", "foo"):
        headers = (f"Upgrade: {protocol}", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
        assert await site.status("GET", "/ws", *headers) != 101, protocol


async def test_nodes_know_the_client_and_not_what_it_says_of_itself(site: Site) -> None:
    """The limit of an address counts the real one, behind the proxy: made-up headers help nobody and hurt nobody."""
    alice = await site.cluster.account("alice")
    async with AsyncExitStack() as stack:

        async def enter(source: str, made_up: str) -> int:
            forged = {"X-Forwarded-For": made_up, "Forwarded": f"for={made_up}", "X-Real-IP": made_up}
            try:
                headers = {**bearer(alice), **forged}
                await stack.enter_async_context(site.chatting(source=source, additional_headers=headers))
            except InvalidStatus as refused:
                return refused.response.status_code
            return 101

        found = [await enter("127.0.0.21", f"192.0.2.{number}") for number in range(2 * PER_ADDRESS + 4)]
        assert {101: 2 * PER_ADDRESS, 429: 4} == Counter(found)
        assert found[-1] == 429
        assert await enter("127.0.0.22", "127.0.0.21") == 101


BALANCED = {
    "nginx": {
        "# set_real_ip_from 10.0.0.0/8;": "set_real_ip_from 127.0.0.0/8;",
        "# real_ip_header": "real_ip_header",
        "# real_ip_recursive": "real_ip_recursive",
    },
    "traefik": {
        "# forwardedHeaders: { trustedIPs: [10.0.0.0/8] }": "forwardedHeaders: { trustedIPs: [127.0.0.0/8] }",
        "depth: 0": "depth: 1",
        "amount: 200": "amount: 2",
    },
}
FEWER = {"limit_conn gateway_connections 200;": "limit_conn gateway_connections 2;"}


async def test_a_load_balancer_in_front_is_believed(front_name: str, backend: Backend, tmp_path: Path) -> None:
    """With the lines that are there for it: limits count the clients that it names, at the proxy and at the nodes."""
    alice = await backend.cluster.account("alice")
    changes = BALANCED["traefik"] if front_name == "traefik" else {**BALANCED["nginx"], **FEWER}
    with sites.site(front_name, tmp_path, backend, changes) as site:
        async with AsyncExitStack() as stack:

            async def enter(named: str) -> int:
                headers = {**bearer(alice), "X-Forwarded-For": named}
                try:
                    await stack.enter_async_context(site.chatting(additional_headers=headers))
                except InvalidStatus as refused:
                    return refused.response.status_code
                return 101

            assert [101] * 8 == [await enter(f"203.0.113.9, 192.0.2.{number}") for number in range(8)]
            assert [101, 429] == [await enter("203.0.113.9, 192.0.2.1") for _ in range(2)]


async def test_a_node_that_is_gone_costs_nobody_a_handshake(front_name: str, backend: Backend, tmp_path: Path) -> None:
    """Who is sent to a node whose port is closed gets to the other one, and is not told."""
    alice = await backend.cluster.account("alice")
    half = replace(backend, ports=[backend.ports[0], free_port()])
    with sites.site(front_name, tmp_path, half) as site:
        for _ in range(6):
            async with asyncio.timeout(20), site.chatting(additional_headers=bearer(alice)) as link:
                assert "node-1" == json.loads(await link.recv())["node"]


# --- logs


async def test_no_log_holds_a_secret(site: Site, front_name: str, tmp_path: Path) -> None:
    """Tokens, tickets, passwords, cookies and queries go all the ways there are, into failures, too; none is kept."""
    alice = await site.cluster.account("alice")
    cookie = {"Cookie": "session=a-secret-cookie"}
    async with httpx.AsyncClient(
        base_url=site.front.url, verify=site.front.trust, trust_env=False, timeout=30.0
    ) as http:
        ticket = (await http.post("/ticket", headers=bearer(alice))).json()["ticket"]
        for path in (f"/ws?token={alice.access_token}", f"/ws?ticket={ticket}", "/ws/a-room?since=1@a-secret-query"):
            async with site.chatting(path, additional_headers=cookie):
                pass
        await http.post("/login?from=a-secret-query", data={"username": alice.user, "password": "a-secret-password"})
        await http.post("/refresh", json={"refresh_token": "a-secret-refresh-token"}, headers=cookie)
        await http.delete("/sessions/that-one", headers=bearer(alice))
        await http.get(f"/metrics?token={alice.access_token}", headers={"Referer": f"https://x/?{ticket}"})
    nobody = replace(site.backend, ports=[free_port(), free_port()])
    with sites.site(front_name, tmp_path, nobody) as deserted:
        gone = await deserted.status(
            "GET", f"/ws?token={alice.access_token}", *(f"{k}: {v}" for k, v in cookie.items())
        )
        assert gone in {502, 503}
        await deserted.status("GET", f"/ws\x7f?token={alice.access_token}")
    logs = {**site.front.logs(), **{f"deserted {name}": text for name, text in deserted.front.logs().items()}}
    assert "that-one" not in "".join(logs.values())
    logs |= {it.name: it.log for it in (site.cluster.auth, *site.nodes)}
    secret = re.compile(r"eyJ|a-secret-|\?\w+=|" + re.escape(ticket[-20:]) + "|" + alice.access_token[-20:])
    assert [] == [f"{name}: {found}" for name, text in logs.items() for found in secret.findall(text)]


async def test_requests_are_found_again_in_the_logs(site: Site, front_name: str) -> None:
    """A line for each request, in JSON; nginx and the node write the same id for one, so that a client is followed."""
    alice = await site.cluster.account("alice")
    async with site.chatting("/ws/a-room", additional_headers=bearer(alice)):
        pass
    if front_name == "traefik":
        await eventually(lambda: among({"websockets@file"}, {it.get("RouterName") for it in requests(site.front)}))
        return
    await eventually(lambda: among({"/ws/a-room"}, {it["path"] for it in requests(site.front)}))
    ids = {it["request_id"] for it in requests(site.front) if it["path"] == "/ws/a-room"}
    await eventually(lambda: among(ids, {it["request_id"] for it in closed(site)}))


async def among(wanted: set[str], found: set[str | None]) -> bool:
    """Whether all that is wanted is there."""
    return wanted <= found


def closed(site: Site) -> list[dict[str, str]]:
    """Return what nodes have said of connections that ended."""
    logs = (line for node in site.nodes for line in node.log.splitlines())
    return [json.loads(line) for line in logs if "connection.closed" in line]


def requests(front: Front) -> list[dict[str, str]]:
    """Return what a proxy has noted of each request."""
    name = "gateway.log" if "gateway.log" in front.logs() else "access.log"
    return [json.loads(line) for line in front.logs()[name].splitlines()]
