"""Revocations as Redis keeps them: a set of its own, so that who starts later, or missed a command, knows them, too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from heapq import heappop, heappush
from typing import Any, Final

import msgspec
import structlog

from gateway.contracts.broker import Done
from gateway.contracts.recorder import Recorder
from gateway.engines.redis.packing import Args
from gateway.engines.redis.partition import Partition
from gateway.errors import EngineFault
from gateway.protocol.messages import Revoke
from gateway.protocol.revocations import LIMIT

PAGE: Final = 1000  # read at once
BATCH: Final = 500  # written at once
SET_SECONDS: Final = 32 * 86_400  # longer than any revocation
PERHAPS: Final = ("timeout", "lost")  # kinds of faults after which nobody knows whether it was done

log = structlog.get_logger(__name__)


class Rewritten(msgspec.Struct, frozen=True, kw_only=True, tag="revocations_rewritten"):
    """What a server had lost stands there again: who has read the set meanwhile must read it once more."""

    id: str


class Revocations:
    """What this node holds of the set, and how the two become one again. All calls on the loop.

    Each is told once to `carry_out`. `wrote` is called when something that the server lacked has been stored there.
    At most `limit` are held, here and there; beyond, those that end soonest go. `wall` returns Unix seconds.
    """

    def __init__(
        self,
        partition: Partition,
        *,
        carry_out: Callable[[Revoke], None],
        wall: Callable[[], float],
        recorder: Recorder,
        limit: int = LIMIT,
    ) -> None:
        self._partition = partition
        self._carry_out = carry_out
        self._wall = wall
        self._recorder = recorder
        self._limit = limit
        self._decode = msgspec.json.Decoder(Revoke).decode
        self.wrote: Callable[[], None] = lambda: None
        self.started = False  # the set was read once
        self.caught_up = asyncio.Event()  # set while nothing can be missing here
        self._doubted = True
        self._busy = False  # a read, or a write of what is lacking
        self._held: dict[bytes, float] = {}  # as stored -> until
        self._ends: list[tuple[float, bytes]] = []  # a heap
        self._found: set[bytes] = set()  # by the read under way
        self._lacking: list[bytes] = []  # at the server
        self._written = 0  # of these, since the last read

    def store(self, revocation: Revoke, done: Done[None]) -> None:
        """Have the server keep this; nobody is told yet."""

        def stored(reply: Any) -> None:
            done(reply if isinstance(reply, EngineFault) else None)

        self._put([(revocation.until, msgspec.json.encode(revocation))], stored)

    def learn(self, revocation: Revoke, stored: bytes) -> bool:
        """Take note of a revocation; False: it is known, or has ended."""
        self.expire()
        if stored in self._held or revocation.until <= self._wall():
            return False
        self._held[stored] = revocation.until
        heappush(self._ends, (revocation.until, stored))
        if len(self._held) > self._limit:
            self._forget_first()
        return True

    def expire(self) -> None:
        """Forget what has ended."""
        now = self._wall()
        while self._ends and self._ends[0][0] <= now:
            self._forget_first()

    def doubt(self) -> None:
        """Note that the server may have others than this node; a read already under way does not settle that."""
        self.caught_up.clear()
        self._doubted = True

    def catch_up(self) -> None:
        """Read what the server has, and give it what it lacks; what is done already costs nothing.

        Call it only when this node misses no command from here on: what is stored after the read comes as a command.
        """
        if self._busy or not (self._doubted or self._lacking):
            return
        self._busy = True
        if self._doubted:
            self._doubted = False
            self._found.clear()
            self._put((), self._purged)
        else:
            self._give()

    # --- reading

    def _purged(self, reply: Any) -> None:
        if isinstance(reply, EngineFault):
            self._failed()
        else:
            self._scan(b"0")

    def _scan(self, cursor: bytes) -> None:
        self._partition.commands.call(("ZSCAN", self._partition.names.revoked, cursor, "COUNT", PAGE), self._scanned)

    def _scanned(self, reply: Any) -> None:
        if isinstance(reply, EngineFault):
            self._failed()
            return
        cursor, entries = reply
        for stored in entries[::2]:
            self._found.add(stored)
            if stored not in self._held:
                self._meet(stored)
        if cursor != b"0":
            self._scan(cursor)
            return
        self.expire()
        self._lacking = [it for it in self._held if it not in self._found]
        self._found.clear()
        self.started = True
        if not self._doubted:
            self.caught_up.set()
        self._give()

    def _meet(self, stored: bytes) -> None:
        try:
            revocation = self._decode(stored)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:  # of a newer release, or not ours
            self._recorder.count("redis_foreign_payloads")
            log.warning("redis.unknown_revocation", why=str(error))
            return
        if self.learn(revocation, stored):
            self._carry_out(revocation)

    # --- writing

    def _give(self) -> None:
        """Store a batch of what the server lacks; after the last, see whether there is more to do."""
        batch, self._lacking = self._lacking[:BATCH], self._lacking[BATCH:]
        entries = [(self._held[it], it) for it in batch if it in self._held]
        if entries:
            self._put(entries, partial(self._given, batch))
            return
        self._busy = False
        if self._written:
            log.warning("redis.revocations_rewritten", count=self._written)
            self._written = 0
            self.wrote()
        if self._doubted:
            self.catch_up()

    def _given(self, batch: list[bytes], reply: Any) -> None:
        if isinstance(reply, EngineFault):
            self._lacking += batch
            self._written += reply.kind in PERHAPS  # it may have been done, and the others are to be told
            self._failed(doubted=self._doubted)
            return
        self._written += reply
        self._give()

    def _failed(self, *, doubted: bool = True) -> None:
        """Wait for whoever calls `catch_up` next."""
        self._busy, self._doubted = False, doubted

    # --- inside

    def _put(self, entries: Iterable[tuple[float, bytes]], done: Callable[[Any], None]) -> None:
        flat = (part for until, stored in entries for part in (repr(until), stored))
        args: Args = (self._limit, SET_SECONDS, *flat)
        self._partition.run("revoke", (self._partition.names.revoked,), args, done)

    def _forget_first(self) -> None:
        del self._held[heappop(self._ends)[1]]
