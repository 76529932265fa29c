"""A scene: one Valkey, some nodes, and a crowd under load; a test harms it, waits, and asks for the verdict."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.oracle import Verdict
from tests.support.crowd import Crowd, crowd
from tests.support.crowd_life import Load
from tests.support.fleet import API_KEY, SECRET, TAIL, Fleet, Node, fleet
from tests.support.valkey import Valkey


@dataclass(slots=True)
class Scene:
    """What a test plays with; each injection asserts that it happened."""

    valkey: Valkey
    fleet: Fleet
    crowd: Crowd
    began: float = field(default_factory=time.monotonic)

    @property
    def nodes(self) -> list[Node]:
        """The nodes."""
        return self.fleet.nodes

    async def kill(self, node: Node) -> float:
        """SIGKILL a node that has clients; returns the time, once the crowd has seen the connections go."""
        assert self.crowd.on(node.url), f"nobody is on {node.name}: its death would prove nothing"
        at = time.monotonic()
        node.kill()
        await self.crowd.until(lambda: not self.crowd.on(node.url), 30.0, f"{node.name} to lose its clients")
        return at

    async def restart(self, node: Node) -> None:
        """Run a node again that ended, and wait until it is ready."""
        node.restart()
        await node.ready()

    async def kill_valkey(self) -> float:
        """SIGKILL the Valkey; returns the time, once nobody answers on its port."""
        at = time.monotonic()
        assert self.valkey.answers(), "it was gone before"
        self.valkey.stop()
        assert not self.valkey.answers(), "somebody else answers on its port"
        return at

    async def restart_valkey(self) -> float:
        """Run the Valkey again on its port; returns the time at which it answers."""
        await asyncio.to_thread(self.valkey.start)  # the crowd goes on meanwhile
        return time.monotonic()

    @asynccontextmanager
    async def stalled(self, what: Node | Valkey) -> AsyncIterator[None]:
        """Keep a node or the Valkey stopped by SIGSTOP while the body runs."""
        what.stall()
        try:
            yield
        finally:
            what.go_on()

    async def present(self, node: Node) -> dict[str, str]:
        """Ask a node who of the crowd is in its channels; return the users by connection."""
        asked = (self.crowd.api.call(node.url, "presence", {"channel": it}) for it in self.crowd.channels)
        found: dict[str, str] = {}
        for status, answer in await asyncio.gather(*asked):
            assert status == 200, (status, answer)
            found |= {client: info["user"] for client, info in answer["result"]["presence"].items()}
        return {client: user for client, user in found.items() if user.startswith("client-")}

    async def moving(self, within: float = 30.0) -> float:
        """Wait until something published from now on is delivered; return the seconds that took."""
        start = time.monotonic()
        return await self.crowd.until(
            lambda: self.crowd.records.newest_sent >= start, within, "a delivery of something new"
        )

    @staticmethod
    def note(figures: str) -> None:
        """Print figures, for whoever runs with -s and for the report of a failure."""
        print(figures)  # noqa: T201 - shown with a test that fails

    async def verdict(self, within: float = 20.0) -> Verdict:
        """Settle, judge, and print."""
        return await self.crowd.verdict(within)


@asynccontextmanager
async def standing(
    folder: Path,
    load: Load,
    *,
    nodes: int = 3,
    valkey: Valkey | None = None,
    engine_urls: Sequence[str] = (),
    program: Sequence[str] = (),
    **settings: str,
) -> AsyncIterator[Scene]:
    """Set the scene; entered when the crowd is complete and publishes. `settings` of the nodes by variable name.

    `valkey`: one with arguments of its own, not started. `engine_urls`: how each node reaches it, past proxies perhaps;
    too few: the last one serves the rest, too. `program`: runs as node in place of the gateway.
    """
    server = valkey or Valkey(folder)
    server.start()
    try:
        async with (
            fleet(folder, engine_urls or [server.url], nodes, program=program, **settings) as ships,
            crowd(load, nodes=ships.urls, secret=SECRET, api_key=API_KEY) as people,
        ):
            yield Scene(server, ships, people)
    finally:
        server.stop()


def tail(log: Path) -> str:
    """Return the end of a log."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:])
