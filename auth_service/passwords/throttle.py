"""How often passwords may be tried, counted in the database for all replicas together."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network, ip_address

from sqlalchemy import ColumnElement, Select, Update, case, delete, literal, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from auth_service.errors import Refused, too_many_attempts
from auth_service.metrics import Metrics
from auth_service.models import Throttle

WINDOW_SECONDS = 60.0
LONGEST_WAIT = 900  # seconds
DOUBLINGS = 10  # 1 s, 2 s, 4 s ... 512 s, then the longest
MEMORY_SECONDS = 86_400.0  # of waits: who goes on guessing the next day waits no longer than on the first

ACCOUNT, ADDRESS, DEVICE = "account", "address", "device"


@dataclass(frozen=True, slots=True)
class _Bucket:
    kind: str
    key: str
    free: int  # attempts before there are waits


class Throttles:
    """Counts an attempt before its password is hashed, so that guesses made at once are counted like others.

    An account has `account_limit` attempts, less than a minute apart, then one after 1 s, one after another 2 s,
    4 s ... 900 s, until a day has passed without an attempt: with the default of 5, never more than 10 in any minute.
    An address has `address_limit` in a minute that begins with the first. A known device has a bucket of its own, with
    the rule of an account, in the place of both: so whoever guesses from elsewhere, or from next door, does not lock
    the user out.

    Use: `check` before each verification of a password (log-in, change of password), then `passed` if it was right, or
    `unused` if none was looked at. An attempt of which neither is told stays counted: it failed.

    `account` is the name as typed, whether there is such a user or not; case does not matter. `address` is the client's
    IP address; of IPv6, a /64 counts as one. `device` is what `Devices.known` returned. `sessions()` reads and
    `sessions.begin()` writes; `clock` returns the Unix time. Whoever purges the table deletes rows after `purge_at`.
    All methods may raise SQLAlchemyError. Cancelling leaves an attempt counted or not.
    """

    def __init__(
        self,
        sessions: async_sessionmaker[AsyncSession],
        *,
        metrics: Metrics,
        clock: Callable[[], float],
        account_limit: int = 5,
        address_limit: int = 20,
    ) -> None:
        self._sessions = sessions
        self._metrics = metrics
        self._clock = clock
        self._account_limit = account_limit
        self._address_limit = address_limit

    async def check(self, *, account: str, address: str, device: str | None) -> None:
        """Count an attempt. Raises Refused (429, Retry-After) when it comes too early, which counts nowhere."""
        now = self._clock()
        buckets = self._buckets(account, address, device)
        async with self._sessions() as session:
            for bucket in buckets:  # a look without a lock: floods of guesses write nothing
                open_at = await session.scalar(_open_at(bucket))
                if open_at is not None and open_at > now:
                    raise self._refused(bucket, open_at, now)
        async with self._sessions.begin() as session:
            for bucket in buckets:
                if not await _counted(session, bucket, now):  # others were faster
                    raise self._refused(bucket, await session.scalar(_open_at(bucket)), now)

    async def passed(self, *, account: str, address: str, device: str | None) -> None:
        """Tell of a right password: its account, or device, begins anew, and its address gets this attempt back."""
        async with self._sessions.begin() as session:
            for bucket in self._buckets(account, address, device):
                if bucket.kind == ACCOUNT:
                    await session.execute(delete(Throttle).where(Throttle.key == bucket.key))
                else:
                    left = literal(0) if bucket.kind == DEVICE else Throttle.failures - 1
                    await session.execute(_set_back(bucket, left))

    async def unused(self, *, account: str, address: str, device: str | None) -> None:
        """Give an attempt back of which nobody learnt anything, because no password was hashed (503)."""
        async with self._sessions.begin() as session:
            for bucket in self._buckets(account, address, device):
                await session.execute(_set_back(bucket, Throttle.failures - 1))

    def _buckets(self, account: str, address: str, device: str | None) -> Sequence[_Bucket]:
        """Return what an attempt counts in, always in one order: no two transactions wait for each other."""
        if device is not None:
            return (_Bucket(DEVICE, device_key(device), self._account_limit),)
        return (
            _Bucket(ADDRESS, _key(ADDRESS, network(address)), self._address_limit),
            _Bucket(ACCOUNT, _key(ACCOUNT, account.lower()), self._account_limit),
        )

    def _refused(self, bucket: _Bucket, open_at: float | None, now: float) -> Refused:
        self._metrics.throttled.labels(bucket.kind).inc()
        return too_many_attempts(max(1, math.ceil((open_at or now) - now)))


def device_key(device: str) -> str:
    """Return the key of a device's row, which is there as long as the device is known."""
    return f"{DEVICE}:{device}"


def network(address: str) -> str:
    """Return what one customer of a provider has: an IPv4 address or the /64 of an IPv6 one."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((parsed, 64), strict=False))


def _key(kind: str, name: str) -> str:
    return f"{kind}:{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _open_at(bucket: _Bucket) -> Select[float]:
    return select(Throttle.open_at).where(Throttle.key == bucket.key)


async def _counted(session: AsyncSession, bucket: _Bucket, now: float) -> bool:
    """Count an attempt in one bucket, if it is open; of several at once, each sees what the one before it left."""
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    row = {"key": bucket.key, "failures": 0, "since": now, "open_at": 0.0, "purge_at": now + WINDOW_SECONDS}
    await session.execute(insert(Throttle).values(row).on_conflict_do_nothing())
    since, failures, open_at, purge_at = _by_window(bucket, now) if bucket.kind == ADDRESS else _by_waits(bucket, now)
    changed = {"since": since, "failures": failures, "open_at": open_at}
    if bucket.kind != DEVICE:
        changed["purge_at"] = purge_at
    counted = update(Throttle).where(Throttle.key == bucket.key, Throttle.open_at <= now).values(changed)
    return (await session.execute(counted.returning(Throttle.key))).scalar_one_or_none() is not None


_Values = tuple[ColumnElement[float], ColumnElement[int], ColumnElement[float], ColumnElement[float]]


def _by_window(bucket: _Bucket, now: float) -> _Values:
    """So many in a minute from the first; the next minute begins with the next attempt after it."""
    over = Throttle.since <= now - WINDOW_SECONDS
    since = case((over, now), else_=Throttle.since)
    failures = case((over, 1), else_=Throttle.failures + 1)
    open_at = case((failures >= bucket.free, since + WINDOW_SECONDS), else_=0.0)
    return since, failures, open_at, since + WINDOW_SECONDS


def _by_waits(bucket: _Bucket, now: float) -> _Values:
    """So many with less than a minute between two of them, then with waits that double."""
    memory = case((Throttle.failures < bucket.free, WINDOW_SECONDS), else_=MEMORY_SECONDS)
    failures = case((Throttle.since <= now - memory, 1), else_=Throttle.failures + 1)
    doublings = failures - bucket.free
    wait = case((doublings < DOUBLINGS, literal(1).bitwise_lshift(doublings)), else_=LONGEST_WAIT)
    open_at = case((doublings < 0, 0.0), else_=now + wait)
    purge_at = now + case((doublings < 0, WINDOW_SECONDS), else_=MEMORY_SECONDS)
    return literal(now), failures, open_at, purge_at


def _set_back(bucket: _Bucket, failures: ColumnElement[int]) -> Update:
    """Open a bucket, as it was for the attempt that is not to count."""
    counted = (Throttle.key == bucket.key, Throttle.failures > 0)
    return update(Throttle).where(*counted).values(failures=failures, open_at=0.0)
