from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.e2e.cable import cable_to
from tests.e2e.running import STOP_WITHIN, Demo, gone
from tests.e2e.visitor import Visitor

pytestmark = pytest.mark.needs("chromium")

ROOT = Path(__file__).parents[2]
WITHIN = 180.0  # seconds that a newcomer is asked to wait: everything is installed meanwhile


@pytest.fixture(name="fresh")
def _fresh(tmp_path: Path) -> Iterator[Demo]:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    demo = Demo(clone / ".demo")
    demo.launch("make", "demo", f"ARGS={' '.join(demo.flags)}")
    try:
        demo.wait_until_up(WITHIN)
        yield demo
    finally:
        if demo.process.poll() is None:
            os.killpg(demo.process.pid, signal.SIGKILL)
            demo.process.wait(STOP_WITHIN)


def test_a_newcomer(fresh: Demo, browser: Browser) -> None:
    """Clone, `make demo`, two nodes in two windows, a cut cable, Ctrl-C: each message once, nothing left running."""
    alice, bob = Visitor.open(browser, fresh, "alice"), Visitor.open(browser, fresh, "bob")
    with cable_to(fresh.port) as cable:
        alice.use_node_at(cable.port)
        alice.enter(fresh.node, "lobby")
        alice.say("hello from node-1")
        bob.enter(fresh.second_node, "lobby")
        bob.message("hello from node-1")
        alice.note("User 'bob' has joined the chat.")
        alice.sees_here("alice", "bob")
        bob.whisper("alice", "psst")
        alice.message("psst")
        cable.cut()
        bob.say("while you were away")
        bob.message("while you were away")
        cable.mend()
        alice.message("while you were away")
        bob.close()
        alice.note("User 'bob' has left the chat.")
    alice.close()
    assert [] == alice.faults + bob.faults

    started = fresh.children()
    os.killpg(fresh.process.pid, signal.SIGINT)
    fresh.wait()
    assert gone(started)
