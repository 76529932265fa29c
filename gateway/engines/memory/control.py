"""The control bus of a node that is alone: it tells and asks itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from gateway.contracts.broker import Done
from gateway.contracts.engine import EngineSink
from gateway.protocol.messages import ControlCommand, Survey
from gateway.protocol.values import NodeInfo
from gateway.types import NodeId

REMEMBERED: Final = 4000  # ids of commands that were carried out


class MemoryControl:
    """See `contracts.control.ControlBus`."""

    def __init__(self, node: NodeId, *, sink: EngineSink) -> None:
        self._node = node
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._seen: dict[str, None] = {}  # oldest first

    @property
    def ready(self) -> bool:
        """See the contract; nobody was there before."""
        return True

    async def stands(self) -> None:
        """See the contract."""

    def send(self, command: ControlCommand, done: Done[None]) -> None:
        """See the contract."""
        if command.id not in self._seen:
            self._seen[command.id] = None
            if len(self._seen) > REMEMBERED:
                del self._seen[next(iter(self._seen))]
            self._loop.call_soon(self._sink.commanded, command)
        self._loop.call_soon(done, None)

    def ask(self, question: Survey, deadline: float, done: Done[Mapping[NodeId, bytes]]) -> None:  # noqa: ARG002 - the contract's; nobody here is slow
        """See the contract."""
        self._loop.call_soon(lambda: done({self._node: self._sink.surveyed(question)}))

    def nodes(self) -> Mapping[NodeId, NodeInfo]:
        """See the contract."""
        return {self._node: self._sink.described()}
