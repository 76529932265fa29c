"""Closures: what the gateway must be told is stored with the change itself, and delivered until it has arrived."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import structlog
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from auth_service.audit import Audit
from auth_service.metrics import Metrics
from auth_service.models import Closure
from auth_service.telling.gateways import GatewayFault, Gateways

log = structlog.get_logger(__name__)

Kind: TypeAlias = Literal["sid", "kid", "user"]

FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 5.0
EAGER_SECONDS: Final = 60.0  # after that the gateway is away for longer
PATIENT_PAUSE: Final = 30.0
POLL_SECONDS: Final = 1.0  # how soon we see what another process entered, for example the command line
LAST_SECONDS: Final = 2.5  # for what is still to be told when we end
AT_ONCE: Final = 8
IN_A_PASS: Final = 200


def pause(tries: int, age: float) -> float:
    """Return the seconds from one try to the next, after so many tries, of what was entered `age` seconds ago."""
    if age >= EAGER_SECONDS:
        return PATIENT_PAUSE
    return float(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(tries - 1, 10)))


def order(kind: Kind, value: str, *, until: float, now: float) -> Closure:
    """Return a row to be added in the transaction that ends the session, key or user. Times are Unix seconds.

    A process without the delivery, such as the command line, adds it so; a service on the same database delivers.
    """
    return Closure(id=str(uuid.uuid4()), kind=kind, value=value, until=until, made_at=now, next_try_at=now, tries=0)


@dataclass(frozen=True, slots=True)
class _Standing:
    """What there is to do."""

    pending: int = 0
    next_try_at: float = math.inf
    ends_at: float = math.inf


class Closures:
    """Delivers the rows of the table to the gateway. `clock` returns the Unix time.

    Every row is told at once, then again after pauses of 0.2 s to 5 s for a minute, then each 30 s until its tokens
    have expired by themselves; then it is given up. While the gateway is away, one row is tried for all; once it is
    back, all are told without waiting for their turn. Several processes may share the table: a try is claimed first,
    and an order that arrives twice is one to the gateway, by its id. A process that dies loses nothing.
    """

    def __init__(
        self,
        *,
        sessions: async_sessionmaker[AsyncSession],
        gateways: Gateways,
        metrics: Metrics,
        audit: Audit,
        clock: Callable[[], float],
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._sessions = sessions
        self._gateways = gateways
        self._metrics = metrics
        self._audit = audit
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._woken = asyncio.Event()
        self._ending = False
        self._failures = 0  # how often the gateway was tried since it went away
        self._away_since = 0.0
        self._standing = _Standing()

    @property
    def pending(self) -> int:
        """How many rows were undelivered when last looked."""
        return self._standing.pending

    def enter(self, session: AsyncSession, kind: Kind, value: str, until: float) -> None:
        """Add a row to the caller's transaction; nothing is sent before it is committed. Then call `wake`."""
        session.add(order(kind, value, until=until, now=self._clock()))

    def wake(self) -> None:
        """Deliver now, not at the next look."""
        self._woken.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver in the background; leaving tries once more what is due, for at most 2.5 s."""
        if not self._gateways.urls:
            log.warning("closures.no_gateway")
        async with self._gateways.connected():
            task = asyncio.create_task(self._run(), name="closures")
            try:
                yield
            finally:
                self._ending = True
                self.wake()
                with suppress(TimeoutError):
                    await asyncio.wait_for(task, LAST_SECONDS)

    async def deliver(self) -> float:
        """Tell what is due, once; return the seconds until it is to be called again. Raises SQLAlchemyError.

        Cancelling it leaves rows that may have arrived and are told again.
        """
        self._standing = await self._look()
        if self._standing.ends_at <= self._clock():
            await self._give_up()
        if self._gateways.urls and self._standing.next_try_at <= self._clock():
            await self._pass()
            self._standing = await self._look()
        if not self._gateways.urls:
            return self._poll_seconds
        now = self._clock()
        rest = max(0.0, self._standing.next_try_at - now)
        if self._failures:  # many rows are no reason to try more often
            rest = max(rest, pause(self._failures, now - self._away_since))
        return min(self._poll_seconds, rest)

    async def _run(self) -> None:
        while True:
            ending = self._ending
            self._woken.clear()
            try:
                rest = await self.deliver()
            except SQLAlchemyError as error:
                log.warning("closures.database_failed", error=type(error).__name__)
                rest = self._poll_seconds
            except Exception:  # the root of a task, which must not end before its time
                log.exception("closures.failed")
                rest = self._poll_seconds
            if ending:
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), rest)

    async def _pass(self) -> None:
        rows = await self._due()
        while rows:
            some = 1 if self._failures else AT_ONCE
            if not await self._tell(rows[:some]):
                return  # the others would wait for the same
            rows = rows[some:]

    async def _tell(self, rows: Sequence[Closure]) -> bool:
        """Try some rows; False if the gateway takes none."""
        claimed = await self._claim(rows)
        faults = await asyncio.gather(*(self._try(row) for row in claimed))
        told = [row for row, fault in zip(claimed, faults, strict=True) if fault is None]
        await self._told(told)
        self._metrics.closures.labels("failed").inc(len(claimed) - len(told))
        if told:
            await self._back()
        elif claimed:
            self._away(next(filter(None, faults)))
        return not self._failures

    async def _back(self) -> None:
        if self._failures:
            self._failures = 0
            log.info("closures.gateway_back", pending=self._standing.pending)
            await self._hurry()

    def _away(self, why: str) -> None:
        if not self._failures:
            self._away_since = self._clock()
            log.warning("closures.gateway_away", why=why, pending=self._standing.pending)
        self._failures += 1

    async def _try(self, row: Closure) -> str | None:
        """Return why it failed, or None."""
        body: dict[str, str | int] = {row.kind: row.value, "id": row.id, "expire_at": math.ceil(row.until)}
        if row.kind == "user":  # who logs in again before this arrives stays
            body["issued_before"] = math.floor(row.made_at)
        try:
            await self._gateways.revoke(body)
        except GatewayFault as fault:
            return str(fault)
        return None

    # --- the table

    async def _look(self) -> _Standing:
        columns = func.count(), func.min(Closure.next_try_at), func.min(Closure.until)
        async with self._sessions() as session:
            count, next_try_at, ends_at = (await session.execute(select(*columns))).one()
        return _Standing(count, next_try_at, ends_at) if count else _Standing()

    async def _due(self) -> Sequence[Closure]:
        """Return what is due; new ones first, since an old one may be what the gateway will never take."""
        due = select(Closure).where(Closure.next_try_at <= self._clock())
        async with self._sessions() as session:
            return (await session.scalars(due.order_by(Closure.tries, Closure.next_try_at).limit(IN_A_PASS))).all()

    async def _claim(self, rows: Sequence[Closure]) -> list[Closure]:
        """Put the next try of each off; of several processes that want the same try, one gets it."""
        claimed = []
        async with self._sessions.begin() as session:
            for row in sorted(rows, key=lambda row: row.id):  # in one order everywhere: no deadlock
                now = self._clock()
                mine = await session.execute(
                    update(Closure)
                    .where(Closure.id == row.id, Closure.tries == row.tries)
                    .values(tries=row.tries + 1, next_try_at=now + pause(row.tries + 1, now - row.made_at))
                    .returning(Closure.id)
                    .execution_options(synchronize_session=False)
                )
                if mine.scalar_one_or_none() is not None:
                    claimed.append(row)
        return claimed

    async def _told(self, rows: Sequence[Closure]) -> None:
        if not rows:
            return
        gone = delete(Closure).where(Closure.id.in_([row.id for row in rows])).returning(Closure.id)
        async with self._sessions.begin() as session:
            first = set((await session.scalars(gone)).all())  # not those that another process told too
        now = self._clock()
        for row in rows:
            if row.id in first:
                self._metrics.closures.labels("told").inc()
                self._metrics.closure_seconds.observe(max(0.0, now - row.made_at))
                self._note("gateway_told", "ok", row)

    async def _hurry(self) -> None:
        """Let all rows be tried at once: the gateway is back."""
        now = self._clock()
        async with self._sessions.begin() as session:
            await session.execute(update(Closure).where(Closure.next_try_at > now).values(next_try_at=now))

    async def _give_up(self) -> None:
        """Forget what has ended by itself."""
        ended = delete(Closure).where(Closure.until <= self._clock()).returning(Closure)
        async with self._sessions.begin() as session:
            rows = (await session.scalars(ended)).all()
        if not self._gateways.urls:
            return
        for row in rows:
            self._metrics.closures.labels("given_up").inc()
            log.error("closures.given_up", kind=row.kind, tries=row.tries)
            self._note("gateway_given_up", "failed", row)

    def _note(self, event: str, result: str, row: Closure) -> None:
        user, session = (row.value if row.kind == kind else "" for kind in ("user", "sid"))
        more = {"key": row.value} if row.kind == "kid" else {}
        self._audit.note(event, result=result, user=user, session=session, kind=row.kind, order=row.id, **more)
