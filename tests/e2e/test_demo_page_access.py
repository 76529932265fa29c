from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.running import Demo
from tests.e2e.visitor import Visitor

pytestmark = pytest.mark.needs("chromium")

Visit = Callable[..., Visitor]


@pytest.fixture(name="room")
def _room() -> str:
    return f"room-{uuid.uuid4().hex[:8]}"


def width(page: Page) -> int:
    """Return how wide the document is, whatever the window."""
    found: int = page.evaluate("document.documentElement.scrollWidth")
    return found


def focused(page: Page) -> str:
    """Return the id, or else the text, of the element that has the focus."""
    found: str = page.evaluate("document.activeElement.id || document.activeElement.textContent")
    return found


def test_phone_shows_and_does_everything(demo: Demo, visit: Visit, room: str) -> None:
    """At 360 px nothing is cut off at the side, and people, room, target and message can be reached."""
    alice, bob = visit("alice", width=360), visit("bob")
    alice.arrive(demo.node, room)
    assert width(alice.page) == 360
    alice.sign_in()
    alice.is_connected()
    bob.enter(demo.second_node, room)

    bob.say("a-word-without-a-place-to-break-" * 8)
    alice.message("a-word-without-a-place-to-break-" * 8)
    assert width(alice.page) == 360
    expect(alice.page.get_by_label("Node")).to_be_hidden()
    alice.page.get_by_role("button", name="Room and people").click()
    expect(alice.page.get_by_label("Node")).to_be_visible()
    assert width(alice.page) == 360
    alice.page.get_by_role("button", name="bob").click()
    alice.page.get_by_role("button", name="Room and people").click()

    expect(alice.page.get_by_label("To", exact=True)).to_have_value("bob")
    alice.page.get_by_label("Message", exact=True).fill("from the phone")
    alice.page.get_by_role("button", name="Send", exact=True).click()
    bob.message("from the phone")


def test_keyboard_is_enough(demo: Demo, visit: Visit, room: str) -> None:
    """Sign in, write to the room, choose bob, write to him and go back, all without a pointer."""
    bob = visit("bob")
    bob.enter(demo.second_node, room)
    alice = visit("alice")
    alice.arrive(demo.node, room)
    keys = alice.page.keyboard
    expect(alice.page.get_by_label("Name")).to_be_focused()
    keys.type("alice")
    keys.press("Tab")
    keys.type(demo.passwords["alice"])
    keys.press("Enter")
    alice.is_connected()
    alice.sees_here("alice", "bob")

    expect(alice.page.get_by_label("Message", exact=True)).to_be_focused()
    keys.type("one line")
    keys.press("Shift+Enter")
    keys.type("and another")
    keys.press("Enter")
    bob.message("one line\nand another")
    keys.press("Shift+Tab")
    keys.press("ArrowDown")
    keys.press("Tab")
    keys.type("for you")
    keys.press("Enter")
    expect(bob.message("for you")).to_contain_text("private to you")
    keys.press("Escape")
    expect(alice.page.get_by_label("To", exact=True)).to_have_value("")


def test_focus_goes_in_reading_order_and_is_seen(demo: Demo, visit: Visit, room: str) -> None:
    """Tab goes from top to bottom through everything that can be used, and each stop is outlined."""
    bob = visit("bob")
    bob.enter(demo.second_node, room)
    alice = visit("alice")
    alice.enter(demo.node, room)
    alice.sees_here("alice", "bob")
    alice.page.evaluate("document.activeElement.blur()")
    alice.page.locator(".brand").click()  # the reading starts at the top

    stops, outlines = [], set()
    for _ in range(11):
        alice.page.keyboard.press("Tab")
        stops.append(focused(alice.page))
        outlines.add(alice.page.evaluate("getComputedStyle(document.activeElement).outlineStyle"))

    expected = [
        "account-open",
        "sign-out",
        "node",
        "room-name",
        "Enter",
        "Bbob",
        "Open a window on node-2",
        "log",
        "target",
        "text",
        "send",
    ]
    assert expected == stops
    assert {"solid"} == outlines


def test_who_comes_and_goes_takes_the_focus_from_nobody(demo: Demo, visit: Visit, room: str) -> None:
    """The list of people changes around the one who has the focus in it."""
    visit("bob").enter(demo.second_node, room)
    alice = visit("alice")
    alice.enter(demo.node, room)
    alice.sees_here("alice", "bob")
    alice.page.get_by_role("button", name="bob").focus()
    carol = visit("carol")
    carol.enter(demo.node, room)
    alice.sees_here("alice", "bob", "carol")
    assert "Bbob" == focused(alice.page)
    carol.sign_out()
    alice.sees_here("alice", "bob")
    assert "Bbob" == focused(alice.page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(demo: Demo, visit: Visit, room: str, scheme: str) -> None:
    """In both colour schemes every text has at least 4.5:1 against what is behind it."""
    alice = visit("alice")
    alice.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type] # its Literal cannot be parametrised
    alice.enter(demo.node, room)
    alice.say("hello")
    alice.message("hello")

    for name in ("--ink", "--soft", "--accent", "--warn"):
        for behind in ("--paper", "--panel") + (("--accent-wash",) if name != "--warn" else ("--warn-wash",)):
            assert contrast(alice.page, name, behind) >= 4.5, (name, behind)
    assert contrast(alice.page, "--accent-ink", "--accent") >= 4.5


def contrast(page: Page, one: str, other: str) -> float:
    """Return the contrast of two colours of the style sheet as WCAG 2.2 defines it."""
    lighter, darker = sorted((luminance(page, one), luminance(page, other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(page: Page, name: str) -> float:
    """Return the relative luminance of a colour of the style sheet."""
    text: str = page.evaluate("name => getComputedStyle(document.documentElement).getPropertyValue(name)", name)
    parts = [int(text.strip()[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (it / 12.92 if it <= 0.04045 else ((it + 0.055) / 1.055) ** 2.4 for it in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_back_off_has_full_jitter(demo: Demo, visit: Visit) -> None:
    """The delay is anything from nothing to a ceiling that doubles from 0.5 s to 30 s."""
    alice = visit("alice")
    alice.page.goto(demo.node)

    delays = alice.page.evaluate(
        """async () => {
            const { backoff } = await import("/chat.js");
            return [0, 1, 5, 6, 60].map((n) => [backoff(n, () => 0), backoff(n, () => 0.5), backoff(n, () => 1)]);
        }"""
    )

    ceilings = [500, 1000, 16_000, 30_000, 30_000]
    assert [[0, ceiling / 2, ceiling] for ceiling in ceilings] == delays
