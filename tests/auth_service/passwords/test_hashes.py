"""Hashing off the loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import argon2
import pytest
from structlog.testing import capture_logs

from auth_service.errors import OperatorError, Refused
from auth_service.metrics import Metrics
from auth_service.passwords.hashes import Passwords
from auth_service.passwords.peppers import Pepper, pepper, read
from tests.auth_service.conftest import PATIENCE

OLD, NEW = pepper("o" * 32), pepper("n" * 32)


@pytest.fixture(name="passwords")
async def _passwords() -> AsyncIterator[Passwords]:
    with closing(Passwords(workers=2, limit=50)) as passwords:
        yield passwords


@contextmanager
def seasoned(*peppers: Pepper, **changes: int) -> Iterator[Passwords]:
    """Run hashes with peppers and other parameters."""
    with closing(Passwords(workers=1, limit=5, peppers=peppers, **changes)) as passwords:  # type: ignore[arg-type] # changes name parameters that are numbers
        yield passwords


@contextmanager
def occupied(passwords: Passwords, *, workers: int) -> Iterator[None]:
    """Keep all threads that hash from their work meanwhile, however late the loop looks."""
    done = threading.Event()
    for _ in range(workers):
        passwords._pool.submit(done.wait, PATIENCE)
    try:
        yield
    finally:
        done.set()


async def test_right_and_wrong(passwords: Passwords) -> None:
    """A password verifies against its own hash only."""
    hashed = await passwords.hash("secret one")
    assert await passwords.verify(hashed, "secret one")
    assert not await passwords.verify(hashed, "secret two")
    assert not await passwords.verify("no hash at all", "secret one")


async def test_an_unknown_user_costs_the_same(passwords: Passwords) -> None:
    """For nobody the same work is done with the same parameters, and nothing is right."""
    hashed = await passwords.hash("secret one")
    assert argon2.extract_parameters(hashed) == argon2.extract_parameters(passwords._nobody)
    assert not await passwords.verify(None, "secret one")
    assert not await passwords.verify(None, "")
    with closing(Passwords(workers=1, limit=1)) as other:
        assert other._nobody != passwords._nobody


async def test_the_loop_goes_on_while_hashing(passwords: Passwords) -> None:
    """Hashes run in other threads: between two of them the loop turns hundreds of times, not once."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    turning = asyncio.create_task(turn())
    before = asyncio.get_running_loop().time()
    await asyncio.gather(*(passwords.hash("secret") for _ in range(20)))
    turning.cancel()
    mean_pause = (asyncio.get_running_loop().time() - before) / turns
    assert turns > 20 * 20
    assert mean_pause < 0.02  # a single hash takes more


async def test_no_endless_queue(passwords: Passwords) -> None:
    """Over the limit a caller is told to come again, at once; later there is room."""
    with occupied(passwords, workers=2):
        waiting = [asyncio.create_task(passwords.hash("secret")) for _ in range(50)]
        await asyncio.sleep(0)
        assert 50 == passwords.pending
        with pytest.raises(Refused, match="503 busy"):
            await passwords.verify(None, "secret")
        for task in waiting[1:]:
            task.cancel()
        await asyncio.wait(waiting[1:])
        assert 50 == passwords.pending  # cancelling does not take back work that is handed over
    assert await waiting[0]
    assert passwords.pending < 50


async def test_a_cancelled_hash_gives_its_place_back_when_done() -> None:
    """The place of a caller who left is free when the thread is through, not before."""
    with closing(Passwords(workers=1, limit=1)) as passwords:
        with occupied(passwords, workers=1):
            task = asyncio.create_task(passwords.hash("secret"))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            assert 1 == passwords.pending
            with pytest.raises(Refused):
                await passwords.hash("secret")
        await asyncio.wrap_future(passwords._pool.submit(int))  # behind it in the only thread
        assert await passwords.hash("secret")


def test_no_less_than_owasp_advises(passwords: Passwords) -> None:
    """Without being told more, hashes are Argon2id with 19 MiB, two passes and one lane."""
    used = passwords._hasher
    parameters = (used.type, used.memory_cost, used.time_cost, used.parallelism, used.salt_len, used.hash_len)
    assert (argon2.Type.ID, 19_456, 2, 1, 16, 32) == parameters


async def test_keyboards_differ(passwords: Passwords) -> None:
    """What one keyboard sends as two characters and another as one is the same password."""
    hashed = await passwords.hash("caf\N{LATIN SMALL LETTER E WITH ACUTE} au lait")
    assert await passwords.verify(hashed, "cafe\N{COMBINING ACUTE ACCENT} au lait")
    assert not await passwords.verify(hashed, "cafe au lait")


async def test_what_is_no_text_is_wrong_and_no_error(passwords: Passwords) -> None:
    """Half a surrogate pair, which no encoding has, is a password like any other."""
    assert not await passwords.verify(None, "\ud800")


async def test_risen_parameters_are_made_up_for() -> None:
    """A hash with less memory or fewer passes is made anew at a log-in; one with more is left."""
    with seasoned() as before, seasoned(memory_kib=20_000) as larger, seasoned(passes=3) as longer:
        hashed = await before.hash("secret one")
        for now in (larger, longer):
            assert await now.verify(hashed, "secret one")
            fresh = await now.renewed(hashed, "secret one")
            assert fresh is not None
            assert await now.verify(fresh, "secret one")
            assert await now.renewed(fresh, "secret one") is None
            assert await before.renewed(fresh, "secret one") is None
        assert await before.renewed(hashed, "secret one") is None


@pytest.mark.parametrize(
    "weak",
    [
        argon2.PasswordHasher(2, 19_456, 1, type=argon2.Type.I),
        argon2.PasswordHasher(2, 19_456, 1, hash_len=16),
        argon2.PasswordHasher(2, 19_456, 1, salt_len=8),
    ],
    ids=["type", "hash", "salt"],
)
async def test_other_kinds_of_hash_are_outdated(passwords: Passwords, weak: argon2.PasswordHasher) -> None:
    """A hash of another type, a shorter one, and one with less salt still verify, and are made anew."""
    hashed = weak.hash("secret one")
    assert await passwords.verify(hashed, "secret one")
    assert passwords.outdated(hashed)


async def test_a_hash_is_renewed_when_there_is_room() -> None:
    """While too many wait, an outdated hash stays: who has the right password gets in all the same."""
    metrics = Metrics()
    with seasoned(OLD) as before, closing(Passwords(workers=1, limit=1, metrics=metrics)) as passwords:
        hashed = await before.hash("secret one")
        waiting = asyncio.create_task(passwords.hash("secret two"))
        await asyncio.sleep(0)
        assert await passwords.renewed(hashed, "secret one") is None
        await waiting
        assert await passwords.renewed(hashed, "secret one")
        assert b"auth_password_hash_refusals_total 1.0" in metrics.exposition()
        assert b"auth_password_rehashes_total 1.0" in metrics.exposition()


async def test_a_pepper_is_needed_and_named() -> None:
    """The hash of a peppered password names its pepper, is no hash of the bare one, and does not verify without."""
    with seasoned(OLD) as passwords, seasoned() as bare, seasoned(NEW) as other:
        hashed = await passwords.hash("secret one")
        assert hashed.startswith(f"$argon2id$v=19$m=19456,t=2,p=1,keyid={OLD.key_id}$")
        assert await passwords.verify(hashed, "secret one")
        assert not await passwords.verify(hashed, "secret two")
        assert not await bare.verify(hashed.replace(f",keyid={OLD.key_id}", ""), "secret one")
        with capture_logs() as logs:
            assert not await bare.verify(hashed, "secret one")
            assert not await other.verify(hashed, "secret one")
        assert [("password.pepper_unknown", "error", OLD.key_id)] * 2 == [
            (line["event"], line["log_level"], line["key_id"]) for line in logs
        ]


async def test_a_pepper_rotates() -> None:
    """Hashes with the old pepper and with none verify beside the new one, and the next log-in gives them the new."""
    with seasoned() as bare, seasoned(OLD) as before, seasoned(NEW, OLD) as between, seasoned(NEW) as after:
        for hashed in (await bare.hash("secret one"), await before.hash("secret one")):
            assert await between.verify(hashed, "secret one")
            fresh = await between.renewed(hashed, "secret one")
            assert fresh is not None
            assert await after.verify(fresh, "secret one")
            assert await between.renewed(fresh, "secret one") is None


async def test_nobody_has_a_pepper_too() -> None:
    """The hash that stands for unknown users differs in nothing from others, so neither does the time."""
    with seasoned(NEW, memory_kib=20_000) as passwords:
        hashed = await passwords.hash("secret one")
        assert hashed.rpartition("$")[0].rpartition("$")[0] == passwords._nobody.rpartition("$")[0].rpartition("$")[0]
        assert not await passwords.verify(None, "secret one")


def test_the_id_of_a_pepper_is_its_own() -> None:
    """The same secret has the same id everywhere, another has another, and no representation shows the secret."""
    assert pepper("o" * 32) == OLD
    assert OLD.key_id != NEW.key_id
    assert "ooo" not in repr(OLD) + OLD.key_id


def test_peppers_are_read_from_a_file(tmp_path: Path) -> None:
    """One secret a line, the first for new hashes; blank lines and the ends of lines do not matter."""
    file = tmp_path / "pepper"
    file.write_text(f"{'n' * 32}\n\n{'o' * 32} \r\n", encoding="utf-8")
    file.chmod(0o600)
    with capture_logs() as logs:
        assert (NEW, OLD) == tuple(read(file))
        assert () == tuple(read(None))
    assert [] == logs
    file.chmod(0o644)
    with capture_logs() as logs:
        read(file)
    assert ["pepper.readable_by_others"] == [line["event"] for line in logs]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"\xff\xfe", "is not text"),
        (b"n" * 32 + b"\nshort-secret", "less than 32 characters"),
    ],
)
def test_a_bad_pepper_file_stops_the_start(tmp_path: Path, content: bytes | None, expected: str) -> None:
    """One line says what to do, and shows no secret."""
    file = tmp_path / "pepper"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(OperatorError, match=expected) as caught:
        read(file)
    assert "short-secret" not in str(caught.value)


async def test_hashes_step_back_behind_the_loop(passwords: Passwords) -> None:
    """The threads that hash leave the processor to the loop's, which keeps its own priority."""
    mine = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    theirs = await passwords._run(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
    assert min(mine + 5, 19) == theirs
    assert mine == os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
