"""One line of how a run goes: rewritten in place on a terminal, said now and then elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Final, TextIO

from loadtests.kit.result import NodeSample, Second

EVERY: Final = 5  # seconds between two lines that stay
SHOWN: Final = 0.1  # share of a second that the generator waited for a core, from which on it is told


class Progress:
    """Writes to `out`; says nothing if `quiet`."""

    def __init__(self, out: TextIO, *, quiet: bool = False) -> None:
        self._out = out
        self._quiet = quiet
        self._rewrites = out.isatty()
        self._phase = ""
        self._width = 0
        self._closes = 0

    def __call__(self, second: Second, nodes: Sequence[NodeSample]) -> None:
        """Show a second that is over."""
        self._closes += second.closes
        if self._quiet:
            return
        text = self._text(second, nodes)
        if self._rewrites:
            text = text[: shutil.get_terminal_size().columns - 1]  # a line that wraps cannot be rewritten
            self._out.write(f"\r{text:<{self._width}}")
            self._width = len(text)
        elif second.phase != self._phase or (second.at + 1) % EVERY == 0:
            self._out.write(f"{text}\n")
        self._phase = second.phase
        self._out.flush()

    def say(self, text: str) -> None:
        """Say something that stays, whether quiet or not."""
        self.end()
        self._out.write(f"{text}\n")
        self._out.flush()

    def end(self) -> None:
        """Leave the line."""
        if self._width:
            self._out.write("\n")
            self._width = 0

    def _text(self, second: Second, nodes: Sequence[NodeSample]) -> str:
        busy = f"{second.busy:.0%}" + f" (and waits {second.starved:.0%})" * (second.starved > SHOWN)
        busy += " SATURATED" * (second.saturated and second.phase == "measure")
        p99 = second.delivery.p99
        parts = [
            f"{second.at + 1:>4} s {second.phase:<8}",
            f"{second.connected:,} connected",
            f"{second.published:,} published/s",
            f"{second.delivered:,} delivered/s",
            f"p99 {p99:.1f} ms" if second.delivery.count and p99 is not None else "p99 -",
            f"{self._closes:,} closed",
            f"generator {busy}",
        ]
        if nodes:
            parts.append("node " + " ".join(f"{it.cpu:.0%}" for it in nodes))
        return "  ".join(parts)
