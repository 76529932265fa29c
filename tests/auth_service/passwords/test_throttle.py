"""How often passwords may be tried, by one process and by several."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import select

from auth_service.errors import Refused
from auth_service.metrics import Metrics
from auth_service.models import Throttle
from auth_service.passwords.devices import AGAIN_SECONDS, FIRST_SECONDS, Devices
from auth_service.passwords.throttle import Throttles, network
from auth_service.store.database import Transactions, open_database
from auth_service.store.purging import purge
from tests.support.clock import ManualClock

ALICE, HOME, CAFE = "alice", "192.0.2.1", "198.51.100.7"
DAY = 86_400.0


@pytest.fixture(name="database")
async def _database(database_url: str) -> AsyncIterator[Transactions]:
    async with open_database(database_url) as database:
        yield database


@pytest.fixture(name="metrics")
def _metrics() -> Metrics:
    return Metrics()


@pytest.fixture(name="throttles")
def _throttles(database: Transactions, metrics: Metrics, clock: ManualClock) -> Throttles:
    return Throttles(database, metrics=metrics, clock=clock.wall)


@pytest.fixture(name="devices")
def _devices(database: Transactions, clock: ManualClock) -> Devices:
    return Devices(database, clock=clock.wall)


async def wait_of(
    throttles: Throttles, account: str = ALICE, address: str = HOME, device: str | None = None
) -> int | None:
    """Try once, wrongly; return the seconds to wait when it came too early, None when it was counted."""
    refused = None
    try:
        await throttles.check(account=account, address=address, device=device)
    except Refused as error:
        refused = error
    if refused is None:
        return None
    assert (429, "too_many_attempts") == (refused.status, refused.code)
    return int(refused.headers["Retry-After"])


async def waits_of(throttles: Throttles, attempts: Iterable[tuple[str, str]]) -> list[int | None]:
    """Try one after another."""
    return [await wait_of(throttles, account, address) for account, address in attempts]


async def test_an_account_has_five_and_then_waits_that_double(throttles: Throttles, clock: ManualClock) -> None:
    """Five attempts are free; then one each after 1 s, 2 s, 4 s ... 512 s, and from then on after 900 s."""
    assert [None] * 5 == await waits_of(throttles, [(ALICE, HOME)] * 5)
    for wait in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900):
        assert wait == await wait_of(throttles)
        clock.advance(wait - 0.01)
        assert 1 == await wait_of(throttles)
        clock.advance(0.01)
        assert await wait_of(throttles) is None


async def test_never_more_than_ten_a_minute(throttles: Throttles, clock: ManualClock) -> None:
    """Whoever tries an account without a pause, from ever other addresses, has ten attempts in the worst minute."""
    counted = []
    for half in range(150):
        if await wait_of(throttles, address=f"10.0.{half // 250}.{half % 250}") is None:
            counted.append(clock.wall())
        clock.advance(0.5)
    assert 10 == max(sum(start <= each < start + 60 for each in counted) for start in counted)


async def test_a_slow_guesser_has_no_more(throttles: Throttles, clock: ManualClock) -> None:
    """Pauses that end just before the minute do not begin a new five: it is counted from the last attempt."""
    assert [None] == await waits_of(throttles, [(ALICE, HOME)])
    clock.advance(59)
    assert [None] * 3 == await waits_of(throttles, [(ALICE, HOME)] * 3)
    clock.advance(59)
    assert [None, 1] == await waits_of(throttles, [(ALICE, HOME)] * 2)


async def test_mistakes_are_forgotten(throttles: Throttles, clock: ManualClock) -> None:
    """Fewer than five are forgotten after a quiet minute; waits after a quiet day."""
    for _ in range(5):
        assert [None] * 4 == await waits_of(throttles, [(ALICE, HOME)] * 4)
        clock.advance(60)
    assert [None] * 5 == await waits_of(throttles, [(ALICE, HOME)] * 5)
    clock.advance(DAY - 1)
    assert [None, 2] == await waits_of(throttles, [(ALICE, HOME)] * 2)
    clock.advance(DAY)
    assert [None] * 5 == await waits_of(throttles, [(ALICE, HOME)] * 5)


async def test_an_address_has_twenty_a_minute(throttles: Throttles, clock: ManualClock, metrics: Metrics) -> None:
    """Twenty attempts from one address, on whatever accounts; then none until a minute from the first has passed."""
    for number in range(20):
        assert await wait_of(throttles, f"user-{number}") is None
        clock.advance(1)
    assert 40 == await wait_of(throttles, "user-20")
    assert await wait_of(throttles, "user-20", CAFE) is None
    clock.advance(40)
    assert [None] * 20 == await waits_of(throttles, [(f"other-{number}", HOME) for number in range(20)])
    assert 60 == await wait_of(throttles, "other-20")
    assert b'auth_throttled_total{by="address"} 2.0' in metrics.exposition()
    assert b'auth_throttled_total{by="account"}' not in metrics.exposition()


async def test_what_is_refused_counts_nowhere(throttles: Throttles, clock: ManualClock) -> None:
    """Refused attempts make no wait longer, and leave the address what it had."""
    assert [None] * 5 + [1] * 100 == await waits_of(throttles, [(ALICE, HOME)] * 105)
    assert [None] * 15 == await waits_of(throttles, [(f"user-{number}", HOME) for number in range(15)])
    clock.advance(1)
    assert [None] == await waits_of(throttles, [(ALICE, CAFE)])


async def test_a_log_in_forgives_its_own_account_only(throttles: Throttles, clock: ManualClock) -> None:
    """After a right password the account has its five again; its address has back what the log-in took, no more."""
    assert [None] * 5 == await waits_of(throttles, [(ALICE, HOME)] * 5)
    clock.advance(1)
    await throttles.check(account=ALICE, address=HOME, device=None)
    await throttles.passed(account=ALICE, address=HOME, device=None)
    assert [None] * 5 == await waits_of(throttles, [(ALICE, CAFE)] * 5)
    others = [(f"user-{number}", HOME) for number in range(16)]
    assert [None] * 15 + [59] == await waits_of(throttles, others)  # 5 of before, and 15


async def test_own_log_ins_do_not_wash_guesses_off_an_address(throttles: Throttles) -> None:
    """Whoever logs in to an account of his own between guesses has not one guess more."""
    for number in range(19):
        assert await wait_of(throttles, f"victim-{number}") is None
        await throttles.check(account="mallory", address=HOME, device=None)
        await throttles.passed(account="mallory", address=HOME, device=None)
    assert [None, 60] == await waits_of(throttles, [("victim-19", HOME), ("victim-20", HOME)])


async def test_an_attempt_that_was_none_is_given_back(throttles: Throttles) -> None:
    """An attempt whose password nobody looked at costs neither account nor address anything."""
    assert [None] * 4 == await waits_of(throttles, [(ALICE, HOME)] * 4)
    for _ in range(30):
        await throttles.check(account=ALICE, address=HOME, device=None)
        await throttles.unused(account=ALICE, address=HOME, device=None)
    assert [None, 1] == await waits_of(throttles, [(ALICE, HOME)] * 2)
    assert [None] * 15 + [60] == await waits_of(throttles, [(f"user-{number}", HOME) for number in range(16)])


async def test_giving_back_what_is_gone_gives_nothing(throttles: Throttles) -> None:
    """Attempts that a log-in forgave meanwhile are not given back a second time."""
    for _ in range(3):
        await throttles.unused(account=ALICE, address=HOME, device=None)
        await throttles.passed(account=ALICE, address=HOME, device=None)
    assert [None] * 5 + [1] == await waits_of(throttles, [(ALICE, HOME)] * 6)


async def test_case_does_not_make_another_account(throttles: Throttles) -> None:
    """An account is the same however its name is typed."""
    names = ["alice", "Alice", "ALICE", "aLiCe", "alicE", "AliCe"]
    assert [None] * 5 + [1] == await waits_of(throttles, [(name, HOME) for name in names])


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("a socket", "a socket"),
    ],
)
def test_an_address_is_what_one_customer_has(address: str, expected: str) -> None:
    """Of IPv6, a whole /64 is one; IPv4 in IPv6 clothes is IPv4; what is no address stands for itself."""
    assert expected == network(address)


async def test_a_network_counts_as_one(throttles: Throttles) -> None:
    """Twenty attempts from as many addresses of one /64 are twenty of one."""
    attempts = [(f"user-{number}", f"2001:db8::{number:x}") for number in range(21)]
    assert [None] * 20 + [60] == await waits_of(throttles, attempts)


async def test_guesses_made_at_once_are_counted_one_by_one(database: Transactions, clock: ManualClock) -> None:
    """Of 50 guesses in flight together, over three replicas, five get to a hash and the rest are refused."""
    replicas = [Throttles(database, metrics=Metrics(), clock=clock.wall) for _ in range(3)]
    guesses = (wait_of(replicas[number % 3], ALICE, f"10.0.0.{number}") for number in range(50))
    assert [1] * 45 + [None] * 5 == sorted(await asyncio.gather(*guesses), key=lambda wait: wait is None)


async def test_guesses_made_at_once_from_one_address(throttles: Throttles) -> None:
    """Of 50 guesses on as many accounts in flight together, twenty get to a hash."""
    guesses = (wait_of(throttles, f"user-{number}") for number in range(50))
    assert [None] * 20 == [wait for wait in await asyncio.gather(*guesses) if wait is None]


async def test_engines_of_their_own_count_together(database_url: str, clock: ManualClock) -> None:
    """Replicas that share nothing but the database see each other's counts, attempts at the same moment included."""
    async with AsyncExitStack() as stack:
        databases = [await stack.enter_async_context(open_database(database_url)) for _ in range(3)]
        replicas = [Throttles(each, metrics=Metrics(), clock=clock.wall) for each in databases]
        guesses = (wait_of(replicas[number % 3], ALICE, f"10.0.0.{number}") for number in range(30))
        assert 5 == sum(wait is None for wait in await asyncio.gather(*guesses))


async def test_a_known_device_is_apart(
    throttles: Throttles, devices: Devices, clock: ManualClock, metrics: Metrics
) -> None:
    """Where account and address are closed a device of that account has its own five, and its own waits."""
    token = await devices.remember(None, account=ALICE)
    for number in range(20):
        await wait_of(throttles, f"user-{number}")
    assert [None] * 5 == await waits_of(throttles, [(ALICE, CAFE)] * 5)
    assert [60, 1] == await waits_of(throttles, [(ALICE, HOME), (ALICE, CAFE)])
    device = await devices.known(token, account=ALICE)
    assert device is not None
    assert [None] * 5 + [1] == [await wait_of(throttles, device=device) for _ in range(6)]
    clock.advance(1)
    await throttles.check(account=ALICE, address=HOME, device=device)
    await throttles.unused(account=ALICE, address=HOME, device=device)
    assert [None, 2] == [await wait_of(throttles, device=device) for _ in range(2)]
    clock.advance(2)
    await throttles.check(account=ALICE, address=HOME, device=device)
    await throttles.passed(account=ALICE, address=HOME, device=device)
    assert [None] * 5 + [1] == [await wait_of(throttles, device=device) for _ in range(6)]
    assert b'auth_throttled_total{by="device"} 3.0' in metrics.exposition()


async def test_a_device_s_log_in_forgives_nobody_else(throttles: Throttles, devices: Devices) -> None:
    """While the user comes and goes by a known device, strangers' guesses stay counted."""
    device = await devices.known(await devices.remember(None, account=ALICE), account=ALICE)
    assert device is not None
    assert [None] * 5 == await waits_of(throttles, [(ALICE, CAFE)] * 5)
    await throttles.check(account=ALICE, address=CAFE, device=device)
    await throttles.passed(account=ALICE, address=CAFE, device=device)
    assert [1] == await waits_of(throttles, [(ALICE, CAFE)])
    assert [None] * 15 + [60] == await waits_of(throttles, [(f"user-{number}", CAFE) for number in range(16)])


async def test_a_device_is_known_to_its_account_only(devices: Devices) -> None:
    """A token opens no other account's bucket, however the name is typed, and an invented one opens none."""
    token = await devices.remember(None, account="Alice")
    assert await devices.known(token, account="alice")
    assert await devices.known(token, account="ALICE") == await devices.known(token, account="alice")
    for stranger, account in ((token, "mallory"), (token + "x", ALICE), ("", ALICE), (None, ALICE), ("\ud800", ALICE)):
        assert await devices.known(stranger, account=account) is None


async def test_a_token_that_somebody_planted_is_not_taken_over(devices: Devices) -> None:
    """Whoever comes with a token that is not known, or another account's, gets a new one."""
    planted = await devices.remember(None, account="mallory")
    fresh = await devices.remember(planted, account=ALICE)
    assert planted != fresh
    assert await devices.known(planted, account=ALICE) is None
    assert await devices.known(fresh, account=ALICE)
    assert "made-up" != await devices.remember("made-up", account=ALICE)


async def test_devices_that_come_back_are_known_for_longer(
    devices: Devices, database: Transactions, clock: ManualClock
) -> None:
    """A device is forgotten 30 days after its first log-in, and 180 days after any later one."""
    once, often = [await devices.remember(None, account=ALICE) for _ in range(2)]
    clock.advance(FIRST_SECONDS - 1)
    assert often == await devices.remember(often, account=ALICE)
    assert await devices.known(once, account=ALICE)
    clock.advance(1)
    assert await devices.known(once, account=ALICE) is None
    assert once != await devices.remember(once, account=ALICE)
    clock.advance(AGAIN_SECONDS - 2)
    await purge(database, clock.wall())
    assert await devices.known(often, account=ALICE)
    clock.advance(1)
    assert await devices.known(often, account=ALICE) is None
    await purge(database, clock.wall())
    async with database() as session:
        assert 0 == len((await session.scalars(select(Throttle))).all())


async def test_no_name_is_kept(throttles: Throttles, devices: Devices, database: Transactions) -> None:
    """The table names neither accounts nor addresses nor tokens, and its keys fit the column."""
    token = await devices.remember(None, account=ALICE)
    device = await devices.known(token, account=ALICE)
    await wait_of(throttles)
    await wait_of(throttles, "\ud800" * 256, "2001:db8::1")
    await wait_of(throttles, device=device)
    async with database() as session:
        keys = (await session.scalars(select(Throttle.key))).all()
    assert ["account", "account", "address", "address", "device"] == sorted(key.partition(":")[0] for key in keys)
    assert all(len(key) <= 80 for key in keys)
    assert not any(name in key for key in keys for name in (ALICE, HOME, token))


async def test_what_counts_no_more_is_purged(throttles: Throttles, database: Transactions, clock: ManualClock) -> None:
    """Purging changes no answer: rows go when an attempt would forget them anyway, not before."""
    await waits_of(throttles, [(ALICE, HOME)] * 5 + [("bob", CAFE)])
    clock.advance(59)
    await purge(database, clock.wall())
    assert [None, None] == await waits_of(throttles, [("bob", CAFE), (ALICE, HOME)])
    assert [2] == await waits_of(throttles, [(ALICE, CAFE)])
    clock.advance(61)
    await purge(database, clock.wall())
    async with database() as session:
        assert 1 == len((await session.scalars(select(Throttle))).all())
    assert [None, 4] == await waits_of(throttles, [(ALICE, CAFE)] * 2)
    clock.advance(DAY)
    await purge(database, clock.wall())
    async with database() as session:
        assert 0 == len((await session.scalars(select(Throttle))).all())


async def test_clocks_that_differ_a_little_do_not_refuse(database: Transactions, clock: ManualClock) -> None:
    """A replica whose clock is behind sees a bucket open that has attempts left."""
    ahead = Throttles(database, metrics=Metrics(), clock=lambda: clock.wall() + 0.5)
    behind = Throttles(database, metrics=Metrics(), clock=clock.wall)
    for replica in (ahead, behind, ahead, behind):
        assert await wait_of(replica) is None
