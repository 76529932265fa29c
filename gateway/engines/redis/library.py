"""The Lua scripts: their text, their SHA-1, and how to call them."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Final

from gateway.engines.redis.wire import Args, Wire
from gateway.errors import EngineFault

# script -> the shared part that goes in front of it
_SCRIPTS: Final = {
    "publish": "identity",
    "history": "identity",
    "add": "presence",
    "remove": "presence",
    "stats": "",
    "renew": "",
    "retire": "",
}


class Library:
    """Reads the scripts once; loads them onto each new connection, so that EVALSHA alone is enough afterwards.

    A fallback to EVAL on NOSCRIPT would let later commands overtake the one that failed.
    """

    def __init__(self) -> None:
        folder = resources.files("gateway.engines.redis") / "scripts"
        self._texts: dict[str, str] = {}
        self._shas: dict[str, str] = {}
        for name, shared in _SCRIPTS.items():
            text = (folder / f"{name}.lua").read_text()
            if shared:
                text = (folder / f"{shared}.lua").read_text() + text
            self._texts[name] = text
            self._shas[name] = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def call(self, name: str, keys: tuple[str, ...], args: Args) -> Args:
        """Return the command that runs a script."""
        return ("EVALSHA", self._shas[name], len(keys), *keys, *args)

    async def load(self, wire: Wire) -> None:
        """Load everything. Raises EngineFault."""
        for name, text in self._texts.items():
            sha = await wire.ask("SCRIPT", "LOAD", text)
            if sha.decode() != self._shas[name]:
                raise EngineFault("refused", f"script {name} is loaded as {sha!r}")
