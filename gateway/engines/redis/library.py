"""The Lua scripts: their text, their SHA-1, and how to call them."""

from __future__ import annotations

import asyncio
import hashlib
from importlib import resources
from typing import Final

from gateway.engines.redis.packing import Args
from gateway.engines.redis.wire import Wire
from gateway.errors import EngineFault

# script -> the shared part that goes in front of it
_SCRIPTS: Final = {
    "publish": "identity",
    "history": "identity",
    "salt": "",
    "add": "presence",
    "remove": "presence",
    "stats": "",
    "renew": "presence",
    "reap": "presence",
    "retire": "",
    "revoke": "",
}


class Library:
    """Reads the scripts once; loads them onto each new connection, so that EVALSHA alone is enough afterwards.

    A fallback to EVAL on NOSCRIPT would let later commands overtake the one that failed.
    """

    def __init__(self, *, sharded: bool = False) -> None:
        self.sharded = sharded  # pub/sub belongs to the slot of its channel, as keys do (Redis Cluster)
        self.publish_verb = "SPUBLISH" if sharded else "PUBLISH"
        folder = resources.files("gateway.engines.redis") / "scripts"
        self._texts: dict[str, str] = {}
        self._shas: dict[str, str] = {}
        for name, shared in _SCRIPTS.items():
            text = (folder / f"{name}.lua").read_text()
            if shared:
                text = (folder / f"{shared}.lua").read_text() + text
            text = f'local PUBLISH = "{self.publish_verb}"\n' + text
            self._texts[name] = text
            self._shas[name] = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def call(self, name: str, keys: tuple[str, ...], args: Args) -> Args:
        """Return the command that runs a script."""
        return ("EVALSHA", self._shas[name], len(keys), *keys, *args)

    async def load(self, wire: Wire) -> None:
        """Load everything, in one round trip. Raises EngineFault."""
        loaded = await asyncio.gather(*(wire.ask("SCRIPT", "LOAD", text) for text in self._texts.values()))
        for name, sha in zip(self._texts, loaded, strict=True):
            if sha.decode() != self._shas[name]:
                raise EngineFault("refused", f"script {name} is loaded as {sha!r}")
