"""One partition as the broker and the presence store see it: its names, its server's links, its scripts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from gateway.engines.redis.library import Library
from gateway.engines.redis.link import Link
from gateway.engines.redis.subscriptions import Subscriptions
from gateway.engines.redis.topology import Names
from gateway.engines.redis.wire import Answered, Args


@dataclass(slots=True)
class Partition:
    """A share of all channels, wholly on one server."""

    names: Names
    commands: Link
    subscriptions: Subscriptions
    library: Library

    def run(self, script: str, keys: tuple[str, ...], args: Args, done: Answered) -> None:
        """Run a script on the command link."""
        self.commands.call(self.library.call(script, keys, args), done)


Place: TypeAlias = Callable[[str], Partition]
"""From a channel to its partition."""


def milliseconds(seconds: float) -> int:
    """Return a time to live as Redis wants it; 0 stays 0, which means for ever."""
    return max(1, round(seconds * 1000)) if seconds > 0 else 0
