"""A user in front of the chat page, in a browser window of their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlencode

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Route, expect

from tests.e2e.running import Demo

PATIENCE = 30_000  # ms for anything that happens by itself


@dataclass(slots=True)
class Visitor:
    """One window; `faults` are the script errors and refused resources that it has seen."""

    demo: Demo
    page: Page
    name: str
    faults: list[str] = field(default_factory=list)
    windows: list[Visitor] = field(default_factory=list)  # others of the same browser

    @classmethod
    def open(cls, browser: Browser, demo: Demo, name: str, *, width: int = 1200) -> Visitor:
        """Open a window that shares nothing with others."""
        context = browser.new_context(viewport={"width": width, "height": 720})
        return cls.within(context, demo, name)

    @classmethod
    def within(cls, context: BrowserContext, demo: Demo, name: str) -> Visitor:
        """Open a window that shares the cookies of others."""
        visitor = cls(demo, context.new_page(), name)
        visitor.page.set_default_timeout(PATIENCE)
        faults = visitor.faults

        def complained(message: ConsoleMessage) -> None:
            if "Content Security Policy" in message.text:
                faults.append(message.text)

        visitor.page.on("pageerror", lambda error: faults.append(error.message))
        visitor.page.on("console", complained)
        return visitor

    def close(self) -> None:
        """Close the window."""
        self.page.context.close()

    def another(self) -> Visitor:
        """Open another window of this browser."""
        window = Visitor.within(self.page.context, self.demo, self.name)
        self.windows.append(window)
        return window

    def use_node_at(self, port: int) -> None:
        """Have the page reach its first node through another port."""
        nodes = [
            {"name": "node-1", "url": f"http://127.0.0.1:{port}"},
            {"name": "node-2", "url": self.demo.second_node},
        ]
        config = {"nodes": nodes, "auth": f"http://127.0.0.1:{self.demo.auth_port}", "room": "lobby"}
        self.page.route("**/demo.json", lambda route: route.fulfill(json=config))

    def hold_token(self, token: str, seconds: int) -> None:
        """Have the sign-in end with this access token in place of the real one."""

        def answer(route: Route) -> None:
            response = route.fetch()
            route.fulfill(response=response, json=response.json() | {"access_token": token, "expires_in": seconds})

        self.page.route("**/login", answer)

    def arrive(self, node: str, room: str) -> None:
        """Load the page of a node."""
        name = "node-2" if node == self.demo.second_node else "node-1"
        self.page.goto(f"{node}/?{urlencode({'node': name, 'room': room})}")

    def sign_in(self, password: str = "") -> None:
        """Fill the form in and send it."""
        self.page.get_by_label("Name").fill(self.name)
        self.page.get_by_label("Password", exact=True).fill(password or self.demo.passwords[self.name])
        self.page.get_by_role("button", name="Sign in").click()

    def sign_out(self) -> None:
        """Sign out by the button at the top."""
        self.page.get_by_role("button", name="Sign out", exact=True).click()

    def open_account(self) -> Locator:
        """Open the dialog of the account and wait for its sessions."""
        self.page.get_by_role("button", name="Account of").click()
        dialog = self.page.get_by_role("dialog")
        expect(dialog.get_by_text("· here")).to_be_visible(timeout=PATIENCE)
        return dialog

    def is_signed_out(self, notice: str = "") -> None:
        """Wait for the form to come back, with this notice above it."""
        expect(self.page.get_by_role("button", name="Register")).to_be_visible(timeout=PATIENCE)
        expect(self.page.locator("#notice-title")).to_have_text(notice)

    def enter(self, node: str, room: str) -> None:
        """Load the page, sign in, and be in the room."""
        self.arrive(node, room)
        self.sign_in()
        self.is_connected()

    def is_connected(self) -> None:
        """Wait for the badge to say so."""
        expect(self.page.locator("#badge")).to_have_attribute("data-state", "open", timeout=PATIENCE)

    def say(self, text: str) -> None:
        """Write to the room."""
        self.write(text, "Everybody")

    def whisper(self, user: str, text: str) -> None:
        """Write to one user."""
        self.write(text, f"{user} (private)")

    def write(self, text: str, target: str) -> None:
        """Write to a target as the page names it."""
        self.page.get_by_label("To", exact=True).select_option(target)
        self.page.get_by_label("Message", exact=True).fill(text)
        self.page.get_by_role("button", name="Send", exact=True).click()

    def messages(self, text: str) -> Locator:
        """Return the messages in the log with exactly this text."""
        return self.page.locator(".message").filter(has=self.page.get_by_text(text, exact=True))

    def message(self, text: str) -> Locator:
        """Wait for the one message with this text."""
        found = self.messages(text)
        expect(found).to_have_count(1, timeout=PATIENCE)
        return found

    def note(self, text: str) -> Locator:
        """Wait for a note in the log."""
        found = self.page.locator(".note, .gap, .problem").filter(has_text=text).last
        expect(found).to_be_visible(timeout=PATIENCE)
        return found

    def sees_here(self, *users: str) -> None:
        """Wait until these users, and nobody else, are listed as present."""
        names = self.page.locator(".person > span:nth-child(2)")
        expect(names).to_have_text(list(users), timeout=PATIENCE)
