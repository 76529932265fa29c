"""What all connections of a node share."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gateway.contracts.clock import Clock
from gateway.contracts.recorder import Recorder
from gateway.contracts.verifier import Verifier
from gateway.denials import Denials
from gateway.joining import JoinTools
from gateway.timers import TimerWheel

if TYPE_CHECKING:
    from gateway.connection import Connection


@dataclass(slots=True)
class Shell:
    """The node's parts, and what it wants to know of its connections."""

    tools: JoinTools
    wheel: TimerWheel
    verifier: Verifier
    clock: Clock
    recorder: Recorder
    spawn: Callable[[Coroutine[Any, Any, None], Connection, str], None]
    opened: Callable[[Connection], None]  # its user is known now
    forgotten: Callable[[Connection], None]  # its link is gone
    queue_limit: int  # bytes in an outbox
    stall_timeout: float  # seconds in which a blocked client must take its share
    close_timeout: float  # seconds for the client's close frame
    denials: Denials = field(default_factory=Denials)
