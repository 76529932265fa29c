from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import WebSocket, expect

from tests.e2e.cable import cable_to
from tests.e2e.running import GATEWAY, Demo
from tests.e2e.visitor import PATIENCE, Visitor

pytestmark = pytest.mark.needs("chromium")

REPORTS = Path(__file__).parents[2] / "reports"
Visit = Callable[..., Visitor]


@pytest.fixture(name="room")
def _room() -> str:
    return f"room-{uuid.uuid4().hex[:8]}"


def test_two_users_on_two_nodes(demo: Demo, visit: Visit) -> None:
    """History on entry, presence, join and leave, room and private messages cross nodes, each where it should."""
    alice, bob, carol = visit("alice"), visit("bob"), visit("carol")
    alice.enter(demo.node, "team")
    alice.note("User 'alice' has joined the chat.")
    alice.say("Good morning! I am on node-1.")
    alice.say("Is anybody on the other node?")
    alice.message("Is anybody on the other node?")

    bob.enter(demo.second_node, "team")
    bob.note("2 messages from before.")
    bob.message("Good morning! I am on node-1.")
    alice.note("User 'bob' has joined the chat.")
    alice.sees_here("alice", "bob")
    bob.sees_here("alice", "bob")

    bob.say("Yes: this is node-2. Your words came with the history.")
    expect(alice.message("Yes: this is node-2. Your words came with the history.").locator(".status")).to_contain_text(
        "ms"
    )
    carol.enter(demo.second_node, "team")
    alice.sees_here("alice", "bob", "carol")
    alice.whisper("bob", "Lunch at noon?")
    expect(bob.message("Lunch at noon?")).to_contain_text("private to you")
    expect(alice.message("Lunch at noon?")).to_contain_text("private to bob")
    expect(alice.message("Lunch at noon?").locator(".status")).to_contain_text("delivered, ")
    bob.whisper("alice", "With pleasure.")
    alice.message("With pleasure.")

    carol.sign_out()
    alice.note("User 'carol' has left the chat.")
    alice.sees_here("alice", "bob")
    bob.say("carol saw none of that.")
    alice.message("carol saw none of that.")
    expect(carol.messages("Lunch at noon?")).to_have_count(0)
    REPORTS.mkdir(exist_ok=True)
    alice.page.screenshot(path=REPORTS / "demo-page.png")


def test_private_message_to_nobody_says_so(demo: Demo, visit: Visit, room: str) -> None:
    """Who has just gone can still be written to, and the page says that it did not arrive."""
    alice, bob = visit("alice"), visit("bob")
    alice.enter(demo.node, room)
    bob.enter(demo.second_node, room)
    alice.sees_here("alice", "bob")
    alice.page.get_by_role("button", name="bob").click()
    bob.close()
    alice.sees_here("alice")

    alice.whisper("bob", "are you there?")

    expect(alice.message("are you there?").locator(".status")).to_have_text("bob is not connected")


def test_cut_socket_loses_and_repeats_nothing(demo: Demo, visit: Visit, room: str) -> None:
    """What is said while alice's link is cut reaches her once, in order, and so does what she says afterwards."""
    alice, bob = visit("alice"), visit("bob")
    with cable_to(demo.port) as cable:
        alice.use_node_at(cable.port)
        alice.enter(demo.node, room)
        bob.enter(demo.second_node, room)
        alice.say("before")
        alice.message("before")  # from then on she knows where she is
        bob.message("before")

        cable.cut()
        assert cable.cuts >= 1
        expect(alice.page.get_by_role("alert").filter(has_text="We are trying again.")).to_be_visible(timeout=PATIENCE)
        for number in range(5):
            bob.say(f"missed {number}")
            bob.message(f"missed {number}")
        cable.mend()
        alice.is_connected()
        alice.note("5 messages came while we were away.")
        alice.say("after")
        bob.message("after")

        said = ["before", *(f"missed {number}" for number in range(5)), "after"]
        expect(alice.page.locator(".message .text")).to_have_text(said)
        expect(bob.page.locator(".message .text")).to_have_text(said)
        expect(alice.page.locator(".banner")).to_be_hidden()


def test_other_node_goes_on_where_the_first_left_off(demo: Demo, visit: Visit, room: str) -> None:
    """Changing the node keeps the log, and brings what was said in between once."""
    alice, bob = visit("alice"), visit("bob")
    alice.enter(demo.node, room)
    bob.enter(demo.node, room)
    alice.say("here")
    bob.message("here")

    alice.page.get_by_label("Node").select_option(demo.second_node)
    alice.note("Connected again, to node-2.")
    bob.say("there")

    alice.message("there")
    expect(alice.page.locator(".message .text")).to_have_text(["here", "there"])


def test_another_room_is_another_conversation(demo: Demo, visit: Visit, room: str) -> None:
    """Entering another room leaves the first one: its log goes, and so does its user for those who stay."""
    alice, bob = visit("alice"), visit("bob")
    alice.enter(demo.node, room)
    bob.enter(demo.second_node, room)
    alice.say("here")
    bob.message("here")

    alice.page.get_by_label("Room", exact=True).fill(f"{room}-2")
    alice.page.get_by_role("button", name="Enter").click()

    bob.note("User 'alice' has left the chat.")
    alice.sees_here("alice")
    alice.say("there")
    alice.message("there")
    expect(alice.page.locator(".message .text")).to_have_text(["there"])
    expect(bob.page.locator(".message .text")).to_have_text(["here"])


def test_operator_disconnect_is_told_in_words(demo: Demo, visit: Visit, room: str) -> None:
    """After a final close code the page stays away and says why, until its user wants back."""
    alice = visit("alice")
    alice.enter(demo.node, room)
    key = json.loads((demo.directory / "secrets.json").read_text())["api_key"]

    answer = httpx.post(
        f"{demo.second_node}/api/disconnect", json={"user": "alice"}, headers={"X-API-Key": key}, timeout=30.0
    )

    assert {"result": {}} == answer.json()
    expect(alice.page.get_by_role("alert").filter(has_text="disconnected by an operator")).to_be_visible(
        timeout=PATIENCE
    )
    expect(alice.page.locator("#badge")).to_have_text("Not connected")
    alice.page.get_by_role("button", name="Connect again").click()
    alice.is_connected()


def test_expiring_token_is_replaced_on_the_open_link(demo: Demo, visit: Visit, room: str) -> None:
    """When the node says that the token ends, the page fetches a new one and stays connected."""
    alice = visit("alice")
    alice.hold_token(token(demo, "alice", 63), 63)
    alice.arrive(demo.node, room)
    with alice.page.expect_websocket() as opened:
        alice.sign_in()
    socket: WebSocket = opened.value

    with socket.expect_event("framereceived", lambda frame: '"refreshed"' in str(frame), timeout=2 * PATIENCE):
        alice.is_connected()

    assert not socket.is_closed()
    expect(alice.page.locator("#badge")).to_have_attribute("data-state", "open")


def test_refused_token_is_replaced_once(demo: Demo, visit: Visit, room: str) -> None:
    """A token that the node does not accept (3500) is not tried again: the page fetches another and gets in."""
    alice = visit("alice")
    alice.hold_token(token(demo, "alice", 600)[:-8] + "AAAAAAAA", 600)

    alice.enter(demo.node, room)

    alice.say("in")
    alice.message("in")


def test_wrong_password_and_registration(demo: Demo, visit: Visit, room: str) -> None:
    """A wrong password is told; a new user can register and is in."""
    alice, erin = visit("alice"), visit(f"erin-{uuid.uuid4().hex[:6]}")
    alice.arrive(demo.node, room)
    alice.sign_in("not-her-password")
    expect(alice.page.get_by_role("alert")).to_have_text("Name or password is wrong.")

    erin.arrive(demo.node, room)
    erin.page.get_by_label("Name").fill(erin.name)
    erin.page.get_by_label("Password", exact=True).fill("a long enough passphrase")
    erin.page.get_by_role("button", name="Register").click()

    erin.is_connected()
    erin.sees_here(erin.name)


def test_markup_is_shown_as_text(demo: Demo, visit: Visit, room: str) -> None:
    """What looks like HTML in a message is what everybody reads, and nothing runs."""
    alice, bob = visit("alice"), visit("bob")
    alice.enter(demo.node, room)
    bob.enter(demo.second_node, room)
    text = "<img src=x onerror=\"document.title='hacked'\"> <b>bold</b>"

    alice.say(text)

    bob.message(text)
    expect(bob.page.locator(".log img, .log b")).to_have_count(0)
    expect(bob.page).to_have_title(f"#{room} · realtime-gateway")


def test_reload_stays_signed_in(demo: Demo, visit: Visit, room: str) -> None:
    """A reloaded window is in the same room again, with its history, without a password."""
    alice = visit("alice")
    alice.enter(demo.node, room)
    alice.say("still here")
    alice.message("still here")

    alice.page.reload()

    alice.is_connected()
    alice.message("still here")


def test_offline_device_is_told(demo: Demo, visit: Visit, room: str) -> None:
    """A banner says that the device is offline, for as long as it is."""
    alice = visit("alice")
    alice.enter(demo.node, room)

    alice.page.context.set_offline(True)
    expect(alice.page.get_by_role("alert").filter(has_text="This device is offline.")).to_be_visible()
    alice.page.context.set_offline(False)

    alice.is_connected()
    expect(alice.page.locator(".banner")).to_be_hidden()


def token(demo: Demo, user: str, ttl: int) -> str:
    """Return a token signed with the demo's key."""
    command = [GATEWAY, "token", "--user", user, "--ttl", str(ttl), "--key", str(demo.directory / "keys")]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()
