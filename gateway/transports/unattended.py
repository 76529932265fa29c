"""The receiver of a link that nobody is attached to: before there is a connection, and after it was told the end."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from gateway.contracts.transport import Receiver

Initiator: TypeAlias = Literal["client", "server", "network"]


class Unattended(Receiver):
    """Takes everything and does nothing."""

    def received(self, payload: bytes, text: bool) -> None:
        """Drop it."""

    def ponged(self) -> None:
        """Drop it."""

    def writable(self, yes: bool) -> None:
        """Nobody writes."""

    def lost(self, code: int | None, initiator: Initiator) -> None:
        """Nobody is told."""


NOBODY: Final = Unattended()
