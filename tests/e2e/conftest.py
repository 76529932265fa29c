"""One demo and one browser for the tests of the chat page, one cluster for those of the SDKs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.e2e.peers import SDKS
from tests.e2e.running import Demo, running
from tests.e2e.visitor import PATIENCE, Visitor
from tests.support import cluster as clusters
from tests.support.cluster import Cluster
from tests.support.valkey import Valkey

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
Visit = Callable[..., Visitor]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the processes of the cluster logged when a test failed."""
    del call
    report = yield
    cluster = item.funcargs.get("cluster")
    if report.failed and isinstance(cluster, Cluster):
        report.sections.extend(cluster.tails())
    return report


@pytest.fixture(scope="session", name="demo")
def _demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with running(tmp_path_factory.mktemp("demo") / "kept") as demo:
        yield demo


@pytest.fixture(scope="module", name="browser")
def _browser() -> Iterator[Browser]:
    """Run a browser for the tests of one file: while it runs, the thread has a loop, and async tests cannot start."""
    expect.set_options(timeout=PATIENCE)  # its own 5 s are few for what a busy machine does meanwhile
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
    assert [] == [fault for visitor in visitors for it in (visitor, *visitor.windows) for fault in it.faults]


@pytest.fixture(scope="session", name="cluster")
def _cluster(valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Run an auth service and two nodes; a test that kills a node runs one more."""
    with clusters.running(tmp_path_factory.mktemp("cluster"), valkey.url) as cluster:
        yield cluster


@pytest.fixture(name="room")
def _room() -> str:
    return f"room-{uuid4().hex[:8]}"


@pytest.fixture(name="sdk", params=SDKS)
def _sdk(request: pytest.FixtureRequest) -> str:
    """Name an official SDK."""
    return str(request.param)
