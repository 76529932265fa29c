"""The account on the chat page: one sign-in for all windows of a browser, and its end wherever it is ended."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, WebSocket, expect

from tests.e2e.running import Demo
from tests.e2e.visitor import Visitor
from tests.support.exactness import within

pytestmark = pytest.mark.needs("chromium")

Visit = Callable[..., Visitor]
PASSWORD = "a long enough passphrase"
SOON = 5_000  # ms in which the end of a session must have reached every window
STORED = "Object.entries({...localStorage, ...sessionStorage}).join() + document.cookie"


@pytest.fixture(name="user")
def _user(demo: Demo) -> str:
    """Register a user whom no other test knows."""
    name = f"dora-{uuid.uuid4().hex[:8]}"
    httpx.post(f"{auth(demo)}/register", json={"username": name, "password": PASSWORD}, timeout=30.0).raise_for_status()
    return name


def auth(demo: Demo) -> str:
    """Return the URL of the auth service."""
    return f"http://127.0.0.1:{demo.auth_port}"


def enter(visitor: Visitor, node: str, room: str) -> Visitor:
    """Load the page, sign in, and be in the room."""
    visitor.arrive(node, room)
    visitor.sign_in(PASSWORD)
    visitor.is_connected()
    return visitor


def signed_out_soon(window: Visitor) -> None:
    """Wait until a window says that its session was ended elsewhere."""
    notice = window.page.locator("#notice-title")
    expect(notice).to_have_text("Signed out elsewhere", timeout=within(SOON, otherwise=3.0))


def refresh_cookie(context: BrowserContext) -> Any:
    """Return the cookie that keeps a browser signed in, None without one."""
    return next((it for it in context.cookies() if it["name"] == "refresh"), None)


def refreshed(demo: Demo) -> float:
    """Return how often the auth service has given tokens for a refresh token."""
    lines = httpx.get(f"{auth(demo)}/metrics", timeout=30.0).text.splitlines()
    return next((float(it.split()[1]) for it in lines if it.startswith('auth_refreshes_total{result="ok"}')), 0.0)


def test_no_script_can_read_a_token(demo: Demo, visit: Visit, user: str, room: str) -> None:
    """After sign-in and reload the cookie is HttpOnly and SameSite=Strict, and nothing is where scripts can read."""
    dora = enter(visit(user), demo.node, room)
    dora.page.reload()
    dora.is_connected()

    assert "" == dora.page.evaluate(STORED)
    assert [] == dora.page.evaluate("indexedDB.databases()")
    kept = refresh_cookie(dora.page.context)
    assert (True, "Strict", "127.0.0.1", "/") == (kept["httpOnly"], kept["sameSite"], kept["domain"], kept["path"])
    assert {"device", "refresh"} >= {it["name"] for it in dora.page.context.cookies()}
    assert all(it["httpOnly"] for it in dora.page.context.cookies())


def test_signing_out_ends_the_session(demo: Demo, visit: Visit, user: str, room: str) -> None:
    """The cookie goes, a reload asks for the password, and what the cookie held is good for nothing any more."""
    dora = enter(visit(user), demo.node, room)
    token = refresh_cookie(dora.page.context)["value"]

    dora.sign_out()
    dora.is_signed_out()

    assert refresh_cookie(dora.page.context) is None
    assert 401 == httpx.post(f"{auth(demo)}/refresh", json={"refresh_token": token}, timeout=30.0).status_code
    dora.page.reload()
    dora.is_signed_out()


def test_signing_out_without_the_auth_service_says_so(demo: Demo, visit: Visit, user: str, room: str) -> None:
    """The page cannot drop the cookie: while the auth service is away its user hears of being signed in still."""
    dora = enter(visit(user), demo.node, room)
    dora.page.route("**/logout", lambda route: route.abort())

    dora.sign_out()

    dora.note("You are still signed in.")
    dora.page.unroute("**/logout")
    dora.sign_out()
    dora.is_signed_out()


def test_windows_of_one_browser_are_one_sign_in(demo: Demo, visit: Visit, user: str, room: str) -> None:
    """A second window is in without a password; when one signs out or in, the other follows at once."""
    first = enter(visit(user), demo.node, room)
    second = first.another()
    second.arrive(demo.node, room)
    second.is_connected()

    first.sign_out()
    second.is_signed_out("Signed out")

    second.sign_in(PASSWORD)
    second.is_connected()
    first.is_connected()


def test_a_window_that_is_told_late_says_why_after_all(demo: Demo, visit: Visit, user: str, room: str) -> None:
    """The node ends its connection before the other window's word comes; then it takes back that it was elsewhere."""
    first = enter(visit(user), demo.node, room)
    second = first.another()
    second.page.add_init_script("""
        const { set } = Object.getOwnPropertyDescriptor(BroadcastChannel.prototype, "onmessage");
        const late = (hear) => (event) => setTimeout(hear, 1500, event);
        Object.defineProperty(BroadcastChannel.prototype, "onmessage", { set(hear) { set.call(this, late(hear)); } });
    """)
    second.arrive(demo.node, room)
    second.is_connected()

    first.sign_out()
    second.is_signed_out("Signed out")


def test_two_users_in_one_browser(demo: Demo, visit: Visit, user: str, room: str) -> None:
    """Under the two names of this machine a browser keeps two sign-ins apart."""
    dora = enter(visit(user), demo.node, room)
    bob = dora.another()
    bob.name = "bob"
    bob.page.goto(f"http://localhost:{demo.second_port}/?room={room}")
    bob.sign_in()
    bob.is_connected()

    dora.sees_here("bob", user)
    bob.page.reload()
    bob.is_connected()
    bob.say("still bob")
    expect(dora.message("still bob")).to_contain_text("bob")


def test_another_user_has_the_cookie(demo: Demo, visit: Visit, user: str, room: str) -> None:
    """When somebody signed in under another address of the page, this window is theirs from the next token on."""
    dora = enter(visit(user), demo.node, room)
    form = {"username": "bob", "password": demo.passwords["bob"]}
    ours = {"Origin": demo.second_node, "X-Requested-With": "browser"}
    assert dora.page.context.request.post(f"{auth(demo)}/login", data=form, headers=ours).ok
    key = json.loads((demo.directory / "secrets.json").read_text())["api_key"]

    httpx.post(
        f"{demo.node}/api/disconnect", json={"user": user}, headers={"X-API-Key": key}, timeout=30.0
    ).raise_for_status()

    dora.sees_here("bob")
    expect(dora.page.get_by_role("button", name="Account of")).to_contain_text("bob")


def test_signed_out_everywhere(demo: Demo, visit: Visit, user: str, room: str) -> None:
    """Signing out everywhere in one browser shows in every window of another, on another node, within 5 s."""
    here, there = enter(visit(user), demo.node, room), enter(visit(user), demo.second_node, room)
    beside = there.another()
    beside.arrive(demo.second_node, room)
    beside.is_connected()

    here.open_account().get_by_role("button", name="Sign out everywhere").click()

    here.is_signed_out("Signed out everywhere")
    for window in (there, beside):
        signed_out_soon(window)
        window.is_signed_out("Signed out elsewhere")
    assert refresh_cookie(there.page.context) is None
    there.sign_in(PASSWORD)
    beside.is_connected()


def test_one_session_is_ended_from_another(demo: Demo, visit: Visit, user: str, room: str) -> None:
    """The dialog lists both sessions; ending the other one leaves this one as it is."""
    here, there = enter(visit(user), demo.node, room), enter(visit(user), demo.second_node, room)
    dialog = here.open_account()
    sessions = dialog.get_by_role("list", name="Sessions").get_by_role("listitem")
    expect(sessions).to_have_count(2)
    expect(sessions.filter(has_text="· here")).to_contain_text("Chrome on Linux")

    sessions.filter(has_not_text="· here").get_by_role("button").click()

    expect(dialog.get_by_text("Signed out there.")).to_be_visible()
    expect(sessions).to_have_count(1)
    signed_out_soon(there)
    here.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    here.say("still here")
    here.message("still here")


def test_a_new_password_ends_the_other_sessions(demo: Demo, visit: Visit, user: str, room: str) -> None:
    """A wrong old password is told; with the right one the others are signed out, and this link is not even cut."""
    here, there = visit(user), enter(visit(user), demo.second_node, room)
    here.arrive(demo.node, room)
    with here.page.expect_websocket() as opened:
        here.sign_in(PASSWORD)
    socket: WebSocket = opened.value
    here.is_connected()
    dialog = here.open_account()

    def change(old: str) -> None:
        dialog.get_by_label("Current password").fill(old)
        dialog.get_by_label("New password").fill("another long passphrase")
        dialog.get_by_role("button", name="Change").click()

    change("not the old one")
    expect(dialog.get_by_role("alert")).to_be_visible()
    change(PASSWORD)
    expect(dialog.get_by_role("status")).to_contain_text("The password was changed")

    signed_out_soon(there)
    here.page.keyboard.press("Escape")
    here.say("still here")
    here.message("still here")
    assert not socket.is_closed()
    there.sign_in(PASSWORD)
    expect(there.page.get_by_role("alert").filter(has_text="Name or password is wrong.")).to_be_visible()
    there.sign_in("another long passphrase")
    there.is_connected()


def test_a_session_that_ended_while_away(demo: Demo, visit: Visit, user: str, room: str) -> None:
    """Who comes back with a cookie that is not good any more is told why the form is there, once."""
    dora = enter(visit(user), demo.node, room)
    token = refresh_cookie(dora.page.context)["value"]
    dora.page.goto("about:blank")
    httpx.post(f"{auth(demo)}/logout", json={"refresh_token": token}, timeout=30.0).raise_for_status()

    dora.arrive(demo.node, room)
    dora.is_signed_out("Your sign-in has ended")

    dora.page.reload()
    dora.is_signed_out("")


def test_coming_back_while_the_auth_service_is_away(demo: Demo, visit: Visit, user: str, room: str) -> None:
    """A reload signs nobody out because nobody answers: the page says so, tries again, and is in once somebody does."""
    dora = enter(visit(user), demo.node, room)
    dora.page.route("**/csrf", lambda route: route.abort())
    dora.page.reload()
    expect(dora.page.get_by_role("alert").filter(has_text="does not answer. We are trying again.")).to_be_visible()

    dora.page.unroute("**/csrf")

    dora.is_connected()
    expect(dora.page.locator(".banner")).to_be_hidden()


def test_windows_take_turns_with_the_cookie(demo: Demo, visit: Visit, user: str, room: str) -> None:
    """Six windows that all come back at once use the cookie one after the other, each with what the last one got."""
    first = enter(visit(user), demo.node, room)
    windows = [first, *(first.another() for _ in range(5))]
    answers: list[int] = []
    first.page.context.on("response", lambda it: answers.append(it.status) if it.url.endswith("/refresh") else None)

    for window in windows:
        window.page.goto(f"{demo.node}/?room={room}", wait_until="commit")

    for window in windows:
        window.is_connected()
    assert {200} == set(answers)
    first.sees_here(user)
    first.page.reload()
    first.is_connected()


def test_the_dialog_by_keyboard_on_a_phone(demo: Demo, visit: Visit, user: str, room: str) -> None:
    """At 360 px the dialog fits, keeps the focus inside, closes with Esc, and gives the focus back."""
    dora = enter(visit(user, width=360), demo.node, room)
    opener = dora.page.get_by_role("button", name="Account of")
    opener.focus()
    dora.page.keyboard.press("Enter")
    dialog = dora.page.get_by_role("dialog")
    expect(dialog.get_by_text("· here")).to_be_visible()

    box = dialog.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360
    assert dialog.evaluate("it => it.scrollWidth <= it.clientWidth")
    for _ in range(6):
        assert dora.page.evaluate(
            "document.activeElement.closest('dialog') !== null || document.activeElement === document.body"
        )
        dora.page.keyboard.press("Tab")
    dora.page.keyboard.press("Escape")
    expect(opener).to_be_focused()


# --- pages of strangers

FOREIGN = """<!doctype html><title>foreign</title>
<form id="plain" method="post" enctype="text/plain" target="frame"><input name="x" value="y"></form>
<iframe name="frame"></iframe>"""


class _Stranger(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(FOREIGN.encode())

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@contextmanager
def strangers_page() -> Iterator[int]:
    """Serve a page of an origin that is not listed, on another port of this very site: SameSite does not stop it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Stranger) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def attacks(page: Page, target: str, csrf: str) -> list[str]:
    """Have a page ask for tokens in every way that it can; return what it could read of the answers."""
    return page.evaluate(  # type: ignore[no-any-return] # a list of strings is what the script returns
        """async ([target, csrf]) => {
            const headers = { "Content-Type": "application/json", "X-Requested-With": "browser" };
            const ways = [
                { mode: "no-cors", body: "{}" },
                { mode: "no-cors", body: new URLSearchParams({ grant_type: "refresh_token" }) },
                { body: "{}" },
                { body: "{}", headers },
                { body: "{}", headers: { ...headers, "X-CSRF-Token": csrf } },
            ];
            const read = [];
            for (const way of ways) {
                for (const path of ["/refresh", "/csrf", "/logout"]) {
                    try {
                        const answer = await fetch(target + path, { method: "POST", credentials: "include", ...way });
                        read.push(await answer.text());
                    } catch { /* the browser did not let us */ }
                }
                document.forms.plain.action = target + "/refresh";
                document.forms.plain.submit();
            }
            return read.filter((text) => text !== "");
        }""",
        [target, csrf],
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_foreign_pages_cannot_use_the_cookie(demo: Demo, visit: Visit, user: str, room: str, host: str) -> None:
    """A page of another origin, even of the same site and with the CSRF token, gets no token and ends no session."""
    dora = visit(user)
    dora.arrive(demo.node, room)
    with dora.page.expect_response("**/login") as answered:
        dora.sign_in(PASSWORD)
    dora.is_connected()
    csrf = json.loads(answered.value.body())["csrf_token"]
    kept, before = refresh_cookie(dora.page.context), refreshed(demo)

    with strangers_page() as port:
        foreign = dora.page.context.new_page()
        foreign.goto(f"http://{host}:{port}/")
        assert [] == attacks(foreign, auth(demo), csrf)

    assert before == refreshed(demo)
    assert kept == refresh_cookie(dora.page.context)
    dora.page.reload()
    dora.is_connected()
    assert before + 1 == refreshed(demo)
