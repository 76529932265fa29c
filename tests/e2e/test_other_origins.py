"""A hostile page in a signed-in user's browser, which sends the user's cookies along wherever it is told to go."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.running import Demo

pytestmark = pytest.mark.needs("chromium")

NAMES = ("token", "access_token", "ticket", "jwt", "session", "sid", "auth")
ATTEMPTS = [
    ("/ws", [], ""),
    ("/ws/lobby", ["chat"], '{"type":"chat","message":"in your name"}'),
    ("/ws", ["notifications"], ""),
    ("/ws", ["echo"], "hello"),
    ("/connection/websocket", [], '{"id":1,"connect":{}}'),
    ("/connection/websocket", ["centrifuge-json"], '{"id":1,"connect":{}}'),
]
CONNECT = """
async ([url, protocols, first]) => {
    const link = new WebSocket(url, protocols);
    const story = { opened: false, messages: [], code: 0 };
    return await new Promise((resolve) => {
        link.onopen = () => { story.opened = true; if (first) link.send(first); };
        link.onmessage = ({ data }) => { story.messages.push(data); };
        link.onclose = ({ code }) => { story.code = code; resolve(story); };
    });
}
"""
FETCH = """
async ([url, how]) => {
    try {
        const answer = await fetch(url, { credentials: "include", ...how });
        return { type: answer.type, status: answer.status, text: await answer.text() };
    } catch (error) {
        return { type: "refused", status: 0, text: "" };
    }
}
"""


@dataclass(slots=True)
class Evil:
    """A web server of somebody else's; `cookies` are those that it was sent, by path."""

    port: int = 0
    cookies: dict[str, str] = field(default_factory=dict)


@contextmanager
def evil_server() -> Iterator[Evil]:
    """Serve an empty page under any name of this machine."""
    evil = Evil()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Write the cookies down."""
            evil.cookies[self.path] = self.headers.get("Cookie", "")
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>You have won</title>")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    evil.port = server.server_port
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield evil
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(name="signed_in")
def _signed_in(browser: Browser, demo: Demo) -> Iterator[BrowserContext]:
    """Open a browser that holds the auth service's own cookies, and a good token in all that one might think of."""
    context = browser.new_context()
    auth = f"http://127.0.0.1:{demo.auth_port}"
    answer = context.request.post(
        f"{auth}/login",
        form={"username": "alice", "password": demo.passwords["alice"]},
        headers={"X-Requested-With": "browser", "Origin": demo.node},
    )
    token = answer.json()["access_token"]
    for host in ("127.0.0.1", "localhost"):
        context.add_cookies([{"name": name, "value": token, "url": f"http://{host}/"} for name in NAMES])
    yield context
    context.close()


def handshakes(url: str) -> dict[str, int]:
    """Return how a node's handshakes ended so far."""
    text = httpx.get(f"{url}/metrics", trust_env=False, timeout=30.0).text
    (family,) = (it for it in text_string_to_metric_families(text) if it.name == "gateway_handshakes")
    return {it.labels["result"]: int(it.value) for it in family.samples if it.name.endswith("_total")}


def opened(context: BrowserContext, host: str, evil: Evil) -> Page:
    """Have the user visit the hostile page."""
    page = context.new_page()
    page.goto(f"http://{host}:{evil.port}/page")
    return page


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "evil.localhost"])
def test_no_connection_is_made_for_another_page(demo: Demo, signed_in: BrowserContext, host: str) -> None:
    """On another port of the same host, where even strict cookies are sent, or on another name: nothing opens."""
    with evil_server() as evil:
        page = opened(signed_in, host, evil)
        page.evaluate(CONNECT, [f"ws://{host}:{evil.port}/probe", [], ""])
        sent = {it.partition("=")[0] for it in evil.cookies["/probe"].split("; ")}
        assert host == "evil.localhost" or set(NAMES) <= sent, "a handshake brings the cookies of its host"
        before = [handshakes(it) for it in (demo.node, demo.second_node)]
        stories = page.evaluate(
            f"(all) => Promise.all(all.map({CONNECT.strip()}))",
            [
                [f"ws://{'localhost' if host == 'localhost' else '127.0.0.1'}:{port}{path}", protocols, first]
                for port in (demo.port, demo.second_port)
                for path, protocols, first in ATTEMPTS
            ],
        )
    assert [{"opened": False, "messages": [], "code": 1006}] * (2 * len(ATTEMPTS)) == stories
    after = [handshakes(it) for it in (demo.node, demo.second_node)]
    for then, now in zip(before, after, strict=True):
        assert then["origin"] + len(ATTEMPTS) == now["origin"]
        assert {**then, "origin": 0} == {**now, "origin": 0}


def test_not_even_our_own_page_is_somebody_by_its_cookies(demo: Demo, signed_in: BrowserContext) -> None:
    """The same attempts from a page that may connect: they open, and without a token nobody is let in."""
    page = signed_in.new_page()
    page.goto(f"{demo.node}/icon.svg")
    stories = [
        page.evaluate(CONNECT, [f"ws://127.0.0.1:{demo.port}{path}", protocols, first])
        for path, protocols, first in ATTEMPTS
        if first
    ]
    assert [{"opened": True, "messages": [], "code": 3501}] * len(stories) == stories


@pytest.mark.parametrize("host", ["127.0.0.1", "evil.localhost"])
def test_nothing_is_got_from_the_auth_service(demo: Demo, signed_in: BrowserContext, host: str) -> None:
    """No token, no session, no ticket: a script is not answered, a form is refused, and the session lives on."""
    auth = f"http://127.0.0.1:{demo.auth_port}"
    asked: list[tuple[str, dict[str, Any]]] = [
        (f"{auth}{path}", how)
        for path in ("/refresh", "/ticket", "/logout", "/csrf", "/tokens/subscription")
        for how in (
            {"method": "POST"},
            {"method": "POST", "headers": {"X-Requested-With": "browser"}},
            {"method": "POST", "mode": "no-cors"},
        )
    ]
    asked += [(f"{auth}{path}", {}) for path in ("/sessions", "/me")]
    asked += [(f"{demo.node}/api/info", {"method": "POST", "mode": "no-cors", "body": "{}"})]
    kept = cookies(signed_in)
    with evil_server() as evil:
        page = opened(signed_in, host, evil)
        answers = [page.evaluate(FETCH, [url, how]) for url, how in asked]
    assert {("refused", 0, ""), ("opaque", 0, "")} == {(it["type"], it["status"], it["text"]) for it in answers}
    assert kept == cookies(signed_in)
    again = signed_in.request.post(f"{auth}/csrf", headers={"X-Requested-With": "browser", "Origin": demo.node})
    assert again.ok, again.text()


def cookies(context: BrowserContext) -> dict[str, str]:
    """Return the cookies of the auth service."""
    return {it["name"]: it["value"] for it in context.cookies() if it["name"] not in NAMES}
