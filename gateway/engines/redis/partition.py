"""One partition as the broker and the presence store see it: its names, its server's links, its scripts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from gateway.engines.redis.packing import Args
from gateway.engines.redis.server import Server
from gateway.engines.redis.topology import Names
from gateway.engines.redis.wire import Answered


class Partition:
    """A share of all channels, wholly on one server; on which may change."""

    __slots__ = ("commands", "library", "names", "publish_verb", "salt", "server", "subscriptions")

    def __init__(self, names: Names, server: Server) -> None:
        self.names = names
        self.library = server.library
        self.publish_verb = server.library.publish_verb
        self.salt = (names.salt,) if server.salted else ()  # the last key of scripts that tell a stream's identity
        self.move(server)

    def move(self, server: Server) -> None:
        """Lie on this server from now on; what is subscribed does not move by itself."""
        self.server = server
        self.commands = server.commands  # these stand here too since they are used once per publication
        self.subscriptions = server.subscriptions

    def go_on(self, script: str, keys: tuple[str, ...], args: Args, done: Answered) -> None:
        """Run a script that goes on with a stream; its salt is the last key.

        Refused here while the server takes no write by which the salt is checked: it may have lost the end of the
        stream, and would use its offsets again under the same epoch.
        """
        if self.salt and self.server.unsalted and self.names in self.server.unsalted:
            self.server.refuse(done)
        else:
            self.run(script, (*keys, *self.salt), args, done)

    def run(self, script: str, keys: tuple[str, ...], args: Args, done: Answered) -> None:
        """Run a script on the command link."""
        self.commands.call(self.library.call(script, keys, args), done)


Place: TypeAlias = Callable[[str], Partition]
"""From a channel to its partition."""


def milliseconds(seconds: float) -> int:
    """Return a time to live as Redis wants it; 0 stays 0, which means for ever."""
    return max(1, round(seconds * 1000)) if seconds > 0 else 0
