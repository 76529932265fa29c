"""What the publications of a load test look like: who said it, when it was due, and where; and how they are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

ELSEWHERE: Final = -1  # in place of a time: on another machine's clock
KNOWN: Final = 256  # frames that are remembered: those of a turn of the loop
PUSH: Final = b'{"push":'


class Heard(NamedTuple):
    """One publication; `due` in µs of CLOCK_MONOTONIC, or `ELSEWHERE`. `number` 0: nobody of ours said it like that."""

    channel: str
    offset: int
    number: int
    epoch: str
    due: int


class Stamp:
    """Makes and reads the data of publications, of `size` bytes (more if what they must say is longer).

    `damaged`: how many were read that had lost some of their padding, or had it changed.
    """

    def __init__(self, host: str, size: int) -> None:
        self.damaged = 0
        self._host = host
        self._middle = b',"h":"%b","p":"' % host.encode()
        self._padding = b"x" * size
        self._text = self._padding.decode()
        self._size = size

    def data(self, number: int, due: int) -> bytes:
        """Return the data of one publication."""
        head = self._head(number, due)
        return b'%b%b"}' % (head, self._padding[: self._room(head)])

    def read(self, channel: str, publication: Mapping[str, Any]) -> Heard:
        """Read a publication of a push, of a recovery, or of history."""
        data = publication.get("data")
        if not isinstance(data, dict):
            return Heard(channel, publication.get("offset", 0), 0, publication.get("epoch", ""), ELSEWHERE)
        number, due = data.get("n", 0), ELSEWHERE
        if data.get("h") == self._host:
            due = data.get("t", ELSEWHERE)
            if data.get("p") != self._text[: self._room(self._head(number, due))]:
                self.damaged += 1
                number, due = 0, ELSEWHERE
        return Heard(channel, publication.get("offset", 0), number, publication.get("epoch", ""), due)

    # --- inside

    def _head(self, number: int, due: int) -> bytes:
        return b'{"n":%d,"t":%d%b' % (number, due, self._middle)

    def _room(self, head: bytes) -> int:
        return max(0, self._size - len(head) - 2)


class Hearsay:
    """Reads frames that hold publications alone; thousands of subscribers get the same bytes, which are read once."""

    def __init__(self, stamp: Stamp) -> None:
        self._stamp = stamp
        self._known: dict[bytes, tuple[Heard, ...] | None] = {}

    def publications(self, payload: bytes) -> tuple[Heard, ...] | None:
        """Return what is in a frame; None: it holds something else, too."""
        try:
            return self._known[payload]
        except KeyError:
            pass
        if not payload.startswith(PUSH):
            return None
        if len(self._known) >= KNOWN:
            self._known.clear()
        found = self._known[payload] = self._read(payload)
        return found

    def _read(self, payload: bytes) -> tuple[Heard, ...] | None:
        heard = []
        for line in payload.split(b"\n"):
            push = orjson.loads(line).get("push", {}) if line else {}
            if "pub" not in push:
                return None
            heard.append(self._stamp.read(push["channel"], push["pub"]))
        return tuple(heard)
