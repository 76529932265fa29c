"""What carries state between nodes: a broker, history, a presence store and a control bus.

`gateway/engines/<scheme>.py` (or a folder) defines `create(url, *, sink, clock, options)`, and may define `check(url)`,
which raises the OperatorError that `create` would raise for the URL alone. A `+` in the scheme is a `_` in the name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from gateway.contracts.broker import Broker, History
from gateway.contracts.control import ControlBus
from gateway.contracts.presence import PresenceStore
from gateway.contracts.recorder import Recorder
from gateway.protocol.messages import ControlCommand, Survey
from gateway.protocol.values import NodeInfo
from gateway.types import Channel, ClientInfo, NodeId, Publication


class EngineSink(Protocol):
    """What an engine tells its node: synchronous, on the loop. None may raise; a raise is logged, the link lives on."""

    def published(self, channel: Channel, publication: Publication) -> None:
        """A publication arrived; in the broker's order per channel."""

    def joined(self, channel: Channel, who: ClientInfo, first: bool) -> None:
        """Somebody joined."""

    def left(self, channel: Channel, who: ClientInfo, last: bool) -> None:
        """Somebody left."""

    def suspect(self, channels: Iterable[Channel], why: str) -> None:
        """The link was rebuilt: publications of these channels may be missing. Told before any later publication."""

    def commanded(self, command: ControlCommand) -> None:
        """A control command, perhaps not for the first time."""

    def surveyed(self, question: Survey) -> bytes:
        """Answer a survey."""

    def described(self) -> NodeInfo:
        """This node's numbers right now."""

    def present(self) -> Iterable[tuple[Channel, ClientInfo, bool]]:
        """Every presence entry that this node holds: channel, who, whether joins and leaves are announced there.

        An engine whose lease was lost enters them anew. Taken in one turn of the loop; an entry whose `add` or
        `remove` is still under way is as its last call left it.
        """


class Engine(Protocol):
    """One node's way to the others. Entering the context connects (or starts trying); leaving closes."""

    node: NodeId
    broker: Broker
    history: History | None
    presence: PresenceStore | None
    control: ControlBus

    def faults(self) -> Sequence[str]:
        """Return why this node is unfit, a line each for `/health/ready`; empty = ready.

        Unfit is who has not been connected yet, who is entering its presence anew, whose background work died. An
        outage that all nodes share makes none of them unfit: it would empty the list of endpoints and mend nothing.
        """

    def outages(self) -> Sequence[str]:
        """Return what does not work right now, a line each; a fit node serves what is left."""


@runtime_checkable
class Linked(Protocol):
    """An engine that depends on links to somewhere else."""

    @property
    def up(self) -> Mapping[str, bool]:
        """Whether each link stands, by its role."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What every engine is told; `prefix` starts every key and pub/sub channel, times in seconds."""

    node: NodeId
    recorder: Recorder
    prefix: str = "gateway"
    command_timeout: float = 1.5
    subscribe_timeout: float = 5.0
    idempotency_ttl: float = 300.0
    presence_ttl: float = 8.0
    epoch_salt: bool = True  # begin a new epoch when the server is another than the one that wrote the stream
    wait_ready: bool = False  # True: entering the context raises OperatorError when the engine cannot be reached


CreateEngine: TypeAlias = Callable[..., AbstractAsyncContextManager[Engine]]
