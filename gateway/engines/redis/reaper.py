"""Takes out of one partition's presence what dead nodes have left there. Every node does so, without locks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from typing import Any, Final

import structlog

from gateway.contracts.recorder import Recorder
from gateway.engines.redis.partition import Partition
from gateway.errors import EngineFault

CHUNK: Final = 64  # entries per script call: about a millisecond in which Redis does nothing else
MORE: Final = 1
ALIVE: Final = -1

log = structlog.get_logger(__name__)


class Reaper:
    """An incarnation is reaped when it was seen overdue for `patience` seconds without a break.

    A break is a time in which Redis did not answer this node: after it everybody looks dead, and the living must have
    their chance to renew. So whoever calls `saw` does so more often than every `patience` seconds.
    """

    def __init__(self, partition: Partition, *, patience: float, recorder: Recorder) -> None:
        self._partition = partition
        self._patience = patience
        self._recorder = recorder
        self._seen: dict[str, float] = {}  # incarnation -> since when it has been overdue, as far as we saw
        self._looked_at = -inf
        self._reaping: set[str] = set()

    def saw(self, overdue: Iterable[bytes], now: float) -> None:
        """Take what a look at the leases has brought, at the time of its answer."""
        before = {} if now - self._looked_at >= self._patience else self._seen
        self._looked_at = now
        self._seen = {name: before.get(name, now) for name in map(bytes.decode, overdue)}
        for incarnation, since in self._seen.items():
            if now - since >= self._patience:
                self.reap(incarnation)

    def impatient(self, since: float, now: float) -> bool:
        """Whether somebody's time has come after `since`, when the last look began."""
        return any(since < at + self._patience <= now for at in self._seen.values())

    def reap(self, incarnation: str, *, own: bool = False, finished: Callable[[], None] = lambda: None) -> None:
        """Take everything out, a chunk at a time; `finished` is not called if a call fails: then start again.

        `own`: it is an earlier incarnation of this node, all that lives has been entered under a later one.
        """
        if incarnation in self._reaping:
            return
        self._reaping.add(incarnation)
        names, total = self._partition.names, 0
        keys = (names.nodes, names.owned + incarnation)
        args = (incarnation, CHUNK, names.client, names.presence, names.users, int(own))

        def answered(reply: Any) -> None:
            nonlocal total
            if isinstance(reply, EngineFault):
                self._reaping.discard(incarnation)
                return
            state, taken = reply
            total += taken
            if taken and not own:
                self._recorder.count("presence_expired", n=taken)
            if state == MORE:
                self._partition.run("reap", keys, args, answered)
                return
            self._reaping.discard(incarnation)
            self._seen.pop(incarnation, None)
            log.info("redis.reaped", incarnation=incarnation, entries=total, own=own, revived=state == ALIVE)
            finished()

        self._partition.run("reap", keys, args, answered)
