"""One demo and one browser for the tests of the chat page."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.e2e.running import Demo, running
from tests.e2e.visitor import Visitor

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
Visit = Callable[..., Visitor]


@pytest.fixture(scope="session", name="demo")
def _demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with running(tmp_path_factory.mktemp("demo") / "kept") as demo:
        yield demo


@pytest.fixture(scope="session", name="browser")
def _browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
        browser = playwright.chromium.launch(executable_path=next(found, None), args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(name="visit")
def _visit(demo: Demo, browser: Browser) -> Iterator[Visit]:
    """Give a function that opens a window; no window may have seen a script error when the test ends."""
    visitors: list[Visitor] = []

    def visit(name: str, *, width: int = 1200) -> Visitor:
        visitors.append(Visitor.open(browser, demo, name, width=width))
        return visitors[-1]

    yield visit
    for visitor in visitors:
        visitor.close()
    assert [] == [fault for visitor in visitors for fault in visitor.faults]
