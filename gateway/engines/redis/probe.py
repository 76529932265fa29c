"""The probe of one server: what goes out on the command link must come in on the pub/sub link.

Nothing else notices a pub/sub link that stands and carries nothing: it is silent by nature, and TCP keeps quiet too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from gateway.contracts.recorder import Recorder
from gateway.engines.redis.subscriptions import Subscriptions
from gateway.errors import EngineFault
from gateway.types import Channel

OVERDUE: Final = 3.0  # seconds from the server's answer to a probe, and the pub/sub link is taken for dead
_STEP: Final = 0.5  # seconds of waiting that one sweep may add: when our own loop stood still, nobody else was late


class Probe:
    """One probe at a time. `clock` returns monotonic seconds; `overdue` is called when one did not come in.

    The wait begins with the server's answer: without any, it is the command link that is in trouble.
    """

    def __init__(
        self,
        subscriptions: Subscriptions,
        *,
        clock: Callable[[], float],
        recorder: Recorder,
        overdue: Callable[[], None],
    ) -> None:
        self._subscriptions = subscriptions
        self._clock = clock
        self._recorder = recorder
        self._overdue = overdue
        self._name = ""
        self._number = 0
        self._under_way = False
        self._answered_at: float | None = None
        self._came = False
        self._waited = 0.0
        self._swept_at = clock()

    def listen(self, name: str) -> None:
        """Let probes come in on this pub/sub channel; cheap if it is the one already."""
        if name != self._name:
            if self._name:
                self._subscriptions.unsubscribe(self._name)
            self._name = name
            self._subscriptions.keep(name, Channel(name), self)
            self.forget()

    def begin(self) -> bytes | None:
        """Return the next probe, which the caller sends; None while one is under way."""
        if self._under_way:
            return None
        self._number += 1
        self._under_way, self._came, self._answered_at = True, False, None
        return b"%d" % self._number

    def answered(self, probe: bytes, reply: object) -> None:
        """Take the server's answer to a probe that was sent."""
        if not self._is_under_way(probe):
            return
        if isinstance(reply, EngineFault):
            self.forget()
        elif self._came:
            self._recorder.observe("redis_pubsub_probe_rtt", 0.0)
            self.forget()
        else:
            self._answered_at, self._waited = self._clock(), 0.0

    def forget(self) -> None:
        """Expect nothing any more: the link was built again, or is down."""
        self._under_way = False

    def sweep(self, now: float) -> None:
        """Look at the wait; call it a few times a second."""
        step, self._swept_at = min(now - self._swept_at, _STEP), now
        if not self._under_way or self._answered_at is None:
            return
        self._waited += step
        if self._waited >= OVERDUE:
            self._recorder.count("redis_pubsub_probe_timeouts")
            self.forget()
            self._overdue()

    # --- the listener of its own channel

    def arrived(self, _channel: Channel, payload: bytes) -> None:
        """Take a probe that came in, perhaps ahead of the server's answer on the other link."""
        if not self._is_under_way(payload):
            return
        if self._answered_at is None:
            self._came = True
        else:
            self._recorder.observe("redis_pubsub_probe_rtt", self._clock() - self._answered_at)
            self.forget()

    def suspect(self, _channels: Iterable[Channel], _why: str) -> None:
        """The channel stands again: a probe sent before that may never come."""
        self.forget()

    # --- inside

    def _is_under_way(self, probe: bytes) -> bool:
        return self._under_way and probe == b"%d" % self._number
