"""Publications whose outcome nobody knows, sent once more: those that an idempotency key keeps from happening twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

from gateway.engines.redis.partition import Partition
from gateway.engines.redis.wire import Answered
from gateway.errors import EngineFault

Send: TypeAlias = Callable[[Partition, Answered], None]

UNKNOWN: Final = ("lost", "timeout")  # it may have happened; all other faults say that it has not


@dataclass(slots=True, eq=False)
class _Attempt:
    """One publication: until when, where it goes, and what is known."""

    deadline: float
    where: Callable[[], Partition]
    send: Send
    done: Answered
    fault: EngineFault | None = None  # of the first attempt; None: that one is under way
    repeated: bool = False
    over: bool = False


class Repeats:
    """Sends, and sends once more when the server answers again, if that is within `patience` seconds of the first time.

    Otherwise the fault of the first attempt goes out. A repeated publication may come later than ones sent after it.
    """

    def __init__(self, *, clock: Callable[[], float], patience: float) -> None:
        self._clock = clock
        self._patience = patience
        self._unsettled: dict[_Attempt, None] = {}  # those whose first attempt failed, oldest first

    def send(self, where: Callable[[], Partition], send: Send, done: Answered) -> None:
        """Send now; `done` gets the reply, or the fault, exactly once. `where` is asked again for the second time."""
        attempt = _Attempt(self._clock() + self._patience, where, send, done)
        send(where(), partial(self._answered, attempt))

    def sweep(self, now: float) -> None:
        """Repeat what can be, give up what is overdue; call it a few times a second."""
        for attempt in list(self._unsettled):
            if now >= attempt.deadline:
                self._settle(attempt, attempt.fault)
            elif not attempt.repeated and (partition := attempt.where()).commands.answers:
                attempt.repeated = True
                attempt.send(partition, partial(self._answered, attempt))

    def close(self) -> None:
        """Answer everybody who still waits."""
        for attempt in list(self._unsettled):
            self._settle(attempt, attempt.fault)

    # --- inside

    def _answered(self, attempt: _Attempt, reply: Any) -> None:
        if attempt.over:
            return  # the answer to the second came after its deadline
        if not isinstance(reply, EngineFault):
            self._settle(attempt, reply)
        elif attempt.fault is not None:
            self._settle(attempt, attempt.fault)  # whatever became of the second, the first may have happened
        elif reply.kind in UNKNOWN:
            attempt.fault = reply
            self._unsettled[attempt] = None
        else:
            self._settle(attempt, reply)

    def _settle(self, attempt: _Attempt, reply: Any) -> None:
        attempt.over = True
        self._unsettled.pop(attempt, None)
        attempt.done(reply)
