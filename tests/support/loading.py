"""Load tests in small: the kit's own processes against a real node with a real Valkey."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from loadtests.kit import local
from loadtests.kit.profile import Profile, read
from loadtests.kit.result import NodeSample, Result, Second
from loadtests.kit.target import Target, by_secret
from loadtests.workers.run import Plan, Run
from tests.support.fleet import SECRET, Node
from tests.support.valkey import Valkey

# Small and short; what a profile expects of a quiet machine is no matter of a test.
SMALL: Final[Mapping[str, str]] = {
    "connections": "40",
    "ramp": "0.3",
    "warm_up": "0.1",
    "duration": "1",
    "settle": "10",
    "expect": "{lost: 0}",
}


@contextmanager
def node(folder: Path, *, program: Sequence[str] = (), **settings: str) -> Iterator[Node]:
    """Run a Valkey and a node with the namespaces of the kit and without limits for one address."""
    namespaces = [{"name": name, **options} for name, options in local.NAMESPACES.items()]
    wanted = {
        "CHANNEL__NAMESPACES": json.dumps(namespaces),
        "CLIENT__COMMAND_RATE": "0",
        "CLIENT__CONNECTION_RATE_LIMIT": "0",
        "HTTP_SERVER__CONNECTIONS_PER_IP": "0",
        **settings,
    }
    server = Valkey(folder)
    server.start()
    try:
        it = Node("node", folder, {"ENGINE__URL": server.url, **wanted}, program=program)
        try:
            it.wait_until_ready()
            yield it
        finally:
            it.kill()
    finally:
        server.stop()


async def played(node: Node, name: str, *, processes: int = 1, **changes: object) -> Result:
    """Play the profile of this name in small against a node; `changes` to the profile on top."""
    made = read(name, {**SMALL, **{field: str(value) for field, value in changes.items()}})
    return await run(node, made, processes)


async def run(node: Node, profile: Profile, processes: int = 1) -> Result:
    """Play a profile to its end."""
    target = Target(urls=[node.url], label="a node", tokens=by_secret(SECRET), metrics=[f"{node.url}/metrics"])
    plan = Plan(profile=profile, target=target, command="a test", processes=processes)
    result = await Run(plan, _unseen).play()
    assert result is not None
    return result


def came(milliseconds: float | None) -> float:
    """Return a percentile; fail if it falls among what never came."""
    assert milliseconds is not None
    return milliseconds


def _unseen(second: Second, nodes: list[NodeSample]) -> None:
    """Show nothing."""
    del second, nodes
