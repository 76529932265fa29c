"""Where one RESP message ends and the next begins, so that a proxy can lose or repeat whole ones."""

from __future__ import annotations

from typing import Final

LINES: Final = b"+-:_,#("
BULKS: Final = b"$=!"
AGGREGATES: Final = {ord("*"): 1, ord("~"): 1, ord(">"): 1, ord("%"): 2, ord("|"): 2}  # parts for each one counted
ATTRIBUTE: Final = ord("|")  # stands before the message it belongs to


class Messages:
    """Cuts a stream into whole messages; `rest` is the beginning of the next one.

    A stream that is not RESP is passed through as it comes: every chunk is a message.
    """

    def __init__(self) -> None:
        self.rest = b""
        self.alien = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes; return the messages that are complete now."""
        if self.alien:
            return [data]
        data, found, at = self.rest + data, [], 0
        try:
            while (end := _end(data, at)) is not None:
                found.append(data[at:end])
                at = end
        except ValueError:
            self.alien, self.rest = True, b""
            return [*found, data[at:]]
        self.rest = data[at:]
        return found


def _end(data: bytes, at: int) -> int | None:
    """Return where the message that begins at `at` ends; None if that has not come yet. Raises ValueError."""
    parts = 1
    while parts:
        line_end = data.find(b"\r\n", at)
        if at < len(data) and data[at] not in LINES + BULKS + bytes(AGGREGATES):
            raise ValueError("not RESP")
        if line_end < 0:
            return None
        kind, count = data[at], data[at + 1 : line_end]
        at, parts = line_end + 2, parts - 1
        if kind in BULKS:
            at += int(count) + 2 if int(count) >= 0 else 0
        elif kind in AGGREGATES:
            parts += max(0, int(count)) * AGGREGATES[kind] + (kind == ATTRIBUTE)
    return at if at <= len(data) else None
