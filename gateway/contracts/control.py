"""What nodes tell and ask each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from gateway.contracts.broker import Done
from gateway.protocol.messages import ControlCommand, Survey
from gateway.protocol.values import NodeInfo
from gateway.types import NodeId


class ControlBus(Protocol):
    """Commands at least once to every node (idempotent by id), surveys at most once."""

    @property
    def ready(self) -> bool:
        """Whether commands reach this node, and it was told what was revoked before it started; once so, always so."""

    async def stands(self) -> None:
        """Wait until it is ready, and nothing that was said meanwhile can be missing."""

    def send(self, command: ControlCommand, done: Done[None]) -> None:
        """Tell every node, this one too; `done` when the command is stored and cannot be lost any more.

        A `Revoke` is kept up to its `until`: nodes that start later are told before they are ready, and nodes that hold
        one that was lost (a server restarted empty) store it anew.
        """

    def ask(self, question: Survey, deadline: float, done: Done[Mapping[NodeId, bytes]]) -> None:
        """Ask every node, this one too, and wait up to `deadline` seconds; who did not answer is absent."""

    def nodes(self) -> Mapping[NodeId, NodeInfo]:
        """The live nodes as last heard of, this one included."""
