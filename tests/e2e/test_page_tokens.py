"""The chat page with tokens of 30 s: it lives on by renewing them on the open link, and nobody notices."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from threading import Event, Thread

import httpx
import pytest
from playwright.sync_api import Browser, Page, Response, WebSocket, expect

from tests.e2e.running import Demo, running
from tests.e2e.visitor import Visitor

pytestmark = pytest.mark.needs("chromium")

SECONDS = 30
RENEWALS = 4
PAUSE = 0.1  # seconds between two messages


@pytest.fixture(name="short", scope="module")
def _short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """Run a demo with access tokens of 30 s."""
    with running(tmp_path_factory.mktemp("short") / "kept", "--token-seconds", str(SECONDS)) as demo:
        yield demo


@contextmanager
def stream(demo: Demo, room: str) -> Iterator[list[str]]:
    """Publish numbered messages to a room, on both nodes in turn, until the end; yield what was published."""
    key = json.loads((demo.directory / "secrets.json").read_text())["api_key"]
    said: list[str] = []
    over = Event()

    def publish() -> None:
        with httpx.Client(headers={"X-API-Key": key}, timeout=30, trust_env=False) as client:
            for number in count():
                body = {"channel": f"chat:{room}", "data": {"message": f"message {number}"}}
                node = (demo.node, demo.second_node)[number % 2]
                client.post(f"{node}/api/publish", json=body).raise_for_status()
                said.append(f"message {number}")
                if over.wait(PAUSE):
                    return

    thread = Thread(target=publish)
    thread.start()
    try:
        yield said
    finally:
        over.set()
        thread.join()


def life(token: str) -> int:
    """Return how many seconds an answer of the auth service gives a token."""
    return int(json.loads(token)["expires_in"])


def test_tokens_are_renewed_without_a_blip(short: Demo, browser: Browser, room: str) -> None:
    """Through several renewals under a stream of messages each window has one connection and each message once.

    Three windows share the renewals: as many refreshes as one window alone would need, none of them refused.
    """
    alice = Visitor.open(browser, short, "alice")
    sockets: list[WebSocket] = []
    refreshes: list[Response] = []

    def opened_by(page: Page) -> None:
        page.on("websocket", seen)

    def seen(socket: WebSocket) -> None:  # playwright cannot take a method of a list
        sockets.append(socket)

    opened_by(alice.page)
    alice.page.context.on("page", opened_by)
    alice.page.context.on("response", lambda it: refreshes.append(it) if it.url.endswith("/refresh") else None)
    alice.enter(short.node, room)
    windows = [alice, alice.another(), alice.another()]
    for window in windows[1:]:
        window.arrive(short.node, room)
        window.is_connected()
    assert 3 == len(sockets)
    opened = len(refreshes)  # each window but the first has come in by the cookie

    with stream(short, room) as said:
        for _ in range(RENEWALS):
            with sockets[2].expect_event("framereceived", lambda it: '"refreshed"' in str(it), timeout=SECONDS * 1000):
                pass
    for window in windows:
        window.message(said[-1])
        expect(window.page.locator(".message .text")).to_have_text(said)

    assert 3 == len(sockets)
    assert not any(socket.is_closed() for socket in sockets)
    assert {200} == {it.status for it in refreshes}
    assert {SECONDS} == {life(it.text()) for it in refreshes}
    assert RENEWALS <= len(refreshes) - opened <= RENEWALS + 1
    assert [] == [fault for window in windows for fault in window.faults]
    alice.close()


def test_a_renewal_that_fails_is_tried_again(short: Demo, browser: Browser, room: str) -> None:
    """While the auth service is away the link stands; once it is back the token is renewed, and nobody was cut off."""
    alice = Visitor.open(browser, short, "alice")
    alice.arrive(short.node, room)
    with alice.page.expect_websocket() as opened:
        alice.sign_in()
    socket: WebSocket = opened.value
    alice.page.route("**/refresh", lambda route: route.abort())
    alice.is_connected()
    with alice.page.expect_event("requestfailed", lambda it: it.url.endswith("/refresh"), timeout=SECONDS * 1000):
        pass

    alice.page.unroute("**/refresh")
    with socket.expect_event("framereceived", lambda it: '"refreshed"' in str(it), timeout=SECONDS * 1000):
        pass

    assert not socket.is_closed()
    assert [] == alice.faults
    alice.close()
