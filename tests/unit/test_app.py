from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from gateway.app import create_app, create_gateway
from gateway.errors import OperatorError
from gateway.resolver import all_codecs, engine_for
from gateway.settings import Settings
from tests.support.app import KEY, handshake, running_app, status


def sections(**more: object) -> Settings:
    """Return settings that let everybody in."""
    return Settings.model_validate({"client": {"insecure": True}, "http_api": {"key": KEY}, **more})


async def test_calls_and_handshakes_go_past_the_layers_of_fastapi(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would cost ten times what the way to a route does; whatever else is asked takes them."""
    passed: list[str] = []
    layers = FastAPI.__call__

    async def noted(self: FastAPI, scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope["path"])
        await layers(self, scope, receive, send)

    monkeypatch.setattr(FastAPI, "__call__", noted)
    async with running_app() as app:
        await app.result("info")
        assert 404 == status(await handshake(app, "/ws/no room"))
        assert [] == passed
        assert 405 == (await app.http.get("/api/info")).status_code
        assert ["/api/info"] == passed


async def test_two_gateways_in_one_process_share_nothing() -> None:
    """Channels, metrics and nodes of one are not the other's."""
    async with running_app() as one, running_app() as two:
        first, second = one.client(), two.client()
        for client in (first, second):
            client.ask(connect={})
            client.subscribe("chat:x")
        for _ in range(50):
            await asyncio.sleep(0)
        await one.result("publish", channel="chat:x", data="one")
        for _ in range(50):
            await asyncio.sleep(0)
        assert (["one"], []) == (first.published(), second.published())
        assert 0 == (await two.result("history", channel="chat:x"))["offset"]
        assert one.node.id != two.node.id
        counted = 'gateway_publishes_total{result="ok"} 1.0'
        assert counted in (await one.http.get("/metrics")).text
        assert counted not in (await two.http.get("/metrics")).text


async def test_health_says_whether_clients_are_welcome() -> None:
    """Live while the loop turns; ready unless starting, draining or out of order, with the reasons."""
    async with running_app() as app:
        assert {"status": "ok"} == (await app.http.get("/health/live")).json()
        assert (200, {"status": "ok"}) == ((ready := await app.http.get("/health/ready")).status_code, ready.json())
        await app.node.drain.at_once()
        ready = await app.http.get("/health/ready")
        assert (503, {"status": "not ready", "faults": ["draining"]}) == (ready.status_code, ready.json())
        assert 200 == (await app.http.get("/health/live")).status_code


async def test_an_outage_that_all_nodes_share_makes_none_of_them_unfit(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is listed, beside the faults of this node if there are any."""
    async with running_app() as app:
        monkeypatch.setattr(app.node.engine, "outages", lambda: ["redis: away"])
        ready = await app.http.get("/health/ready")
        assert (200, {"status": "ok", "degraded": ["redis: away"]}) == (ready.status_code, ready.json())
        monkeypatch.setattr(app.node.engine, "faults", lambda: ["a task died"])
        ready = await app.http.get("/health/ready")
        unfit = {"status": "not ready", "faults": ["a task died"], "degraded": ["redis: away"]}
        assert (503, unfit) == (ready.status_code, ready.json())


async def test_before_the_lifespan_a_node_is_not_ready() -> None:
    """An application that is asked before it has started says so."""
    transport = httpx.ASGITransport(app=create_app(sections()))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway.test") as http:
        assert ["starting"] == (await http.get("/health/ready")).json()["faults"]


async def test_metrics_show_what_is_looked_up() -> None:
    """Gauges are read when they are asked for."""
    async with running_app() as app:
        client = app.client()
        client.ask(connect={})
        client.subscribe("chat:x")
        for _ in range(50):
            await asyncio.sleep(0)
        page = await app.http.get("/metrics")
        assert page.headers["content-type"].startswith("text/plain")
        for line in (
            'gateway_connections{state="open"} 1.0',
            "gateway_subscriptions 1.0",
            "gateway_channels 1.0",
            "gateway_users 1.0",
            "gateway_presence_entries 1.0",
            "gateway_engine_in_memory 1.0",
            "gateway_draining 0.0",
            "gateway_client_queue_bytes 0.0",
            "gateway_client_queue_max_bytes 0.0",
        ):
            assert line in page.text


async def test_metrics_show_the_limit_of_memory_where_there_is_one() -> None:
    """What a node may occupy is shown next to what it occupies, so that an alert can compare the two."""
    gateway = create_gateway(sections(http_server={"memory_limit": 123_000_000}))
    page, _ = gateway.metrics.exposition()
    assert b"\ngateway_memory_limit_bytes 1.23e+08\n" in page


async def test_with_an_internal_port_the_public_one_serves_clients_only() -> None:
    """`/api`, metrics, health and docs stand on the internal application alone."""
    gateway = create_gateway(sections(http_server={"internal_port": 9000}))
    assert gateway.internal is not None
    async with gateway.public.router.lifespan_context(gateway.public):
        for app, expected in ((gateway.public, 404), (gateway.internal, 200)):
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway.test") as http:
                for path in ("/metrics", "/health/live", "/health/ready", "/docs", "/openapi.json"):
                    assert expected == (await http.get(path)).status_code, path
                response = await http.post("/api/info", json={}, headers={"X-API-Key": KEY})
                assert expected == response.status_code


async def test_the_page_is_served_where_it_is_switched_on(tmp_path: Path) -> None:
    """Its files, under a policy that allows nothing from elsewhere; its surroundings as the demo wrote them."""
    async with running_app() as app:
        assert 404 == (await app.http.get("/")).status_code
    demo = tmp_path / "demo.json"
    demo.write_text('{"nodes":[]}')
    async with running_app(web={"enabled": True, "demo_file": str(demo)}) as app:
        page = await app.http.get("/")
        assert (200, "text/html; charset=utf-8") == (page.status_code, page.headers["content-type"])
        assert "default-src 'self'" in page.headers["content-security-policy"]
        assert 200 == (await app.http.get("/app.js")).status_code
        for path in ("/nothing.js", "/..%2fapp.py", "/__init__.py"):
            assert 404 == (await app.http.get(path)).status_code
        assert {"nodes": []} == (await app.http.get("/demo.json")).json()
        assert 200 == (await app.http.get("/health/live")).status_code
        assert 101 == status(await handshake(app, "/ws"))
    async with running_app(web={"enabled": True}) as app:
        surroundings = (await app.http.get("/demo.json")).json()
        assert ["http://gateway.test"] == [it["url"] for it in surroundings["nodes"]]


async def test_a_client_can_speak_over_plain_asgi() -> None:
    """Under another server than ours a handshake is accepted and the connection forgotten when it goes."""
    async with running_app() as app:
        sent = await handshake(app, "/ws")
        assert "websocket.accept" == sent[0]["type"]
        for _ in range(50):
            await asyncio.sleep(0)
        assert {} == app.node.connections


@pytest.mark.parametrize(
    ("server", "limit"), [({}, 4000), ({"workers": 4}, 1000), ({"workers": 4, "memory_limit": 3000}, 3000)]
)
async def test_workers_share_the_memory_of_their_control_group(
    monkeypatch: pytest.MonkeyPatch, server: dict[str, int], limit: int
) -> None:
    """Each may have its part of the limit that the kernel holds all of them to; what is set is for each."""
    seen: list[int] = []
    monkeypatch.setattr("gateway.app.cgroup_memory_limit", lambda: 4000)
    monkeypatch.setattr("gateway.app.Headroom", lambda **limits: seen.append(limits["memory_limit"]))
    create_gateway(sections(http_server=server))
    assert [limit] == seen


def test_an_unknown_engine_is_named_with_the_choices() -> None:
    """The scheme of `engine.url` is the name of a module; what is none is an error of the operator."""
    with pytest.raises(OperatorError, match=r"no engine 'kafka'; there are memory://, redis://"):
        engine_for("kafka://localhost")
    assert callable(engine_for("memory://"))


def test_codecs_are_found_by_name() -> None:
    """All that lie there, under the names that policies go by."""
    codecs = all_codecs()
    assert {"centrifuge_json", "chat", "echo", "notifications"} <= set(codecs)
    assert all(name == codec.name for name, codec in codecs.items())
