"""Password hashes: Argon2id, in a few threads, never on the event loop."""

from __future__ import annotations

import asyncio
import os
import sys
from base64 import b64encode
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import ParamSpec, TypeVar

import structlog
from argon2 import Parameters, PasswordHasher, Type, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError

from auth_service.errors import Refused, busy
from auth_service.metrics import Metrics
from auth_service.passwords.peppers import Pepper
from auth_service.passwords.rules import normal

# OWASP Password Storage Cheat Sheet: the least that is advised
MEMORY_KIB = 19_456
PASSES = 2
LANES = 1
SALT_BYTES = 16
HASH_BYTES = 32

NICENESS = 5  # of the threads: the loop goes first when there are fewer cores than work

_KEY_ID = ",keyid="

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger(__name__)


class Passwords:
    """Hashes and verifies, `workers` at once; over `limit` waiting or at work it refuses (503).

    The first of `peppers` goes into new hashes, which name it; all verify. Without peppers, hashes have none.
    Cancelling a call does not stop the hash that is being computed; its place is free when it is done.
    """

    def __init__(
        self,
        *,
        workers: int,
        limit: int,
        peppers: Sequence[Pepper] = (),
        memory_kib: int = MEMORY_KIB,
        passes: int = PASSES,
        metrics: Metrics | None = None,
    ) -> None:
        self._hasher = PasswordHasher(
            time_cost=passes,
            memory_cost=memory_kib,
            parallelism=LANES,
            hash_len=HASH_BYTES,
            salt_len=SALT_BYTES,
            type=Type.ID,
        )
        self._current = peppers[0] if peppers else None
        self._peppers = {each.key_id: each for each in peppers}
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="argon2", initializer=_step_back)
        self._limit = limit
        self._pending = 0
        self._metrics = metrics or Metrics()
        self._nobody = _with_key_id(_hash_of_nothing(memory_kib, passes), self._current)

    @property
    def pending(self) -> int:
        """How many are waiting or at work."""
        return self._pending

    async def hash(self, password: str) -> str:
        """Return the hash in PHC form. Raises Refused when busy."""
        return await self._run(self._hash, password)

    async def verify(self, hashed: str | None, password: str) -> bool:
        """Whether the password is right. None, for an unknown user, costs the same and is never right.

        Raises Refused when busy.
        """
        return await self._run(self._verify, hashed or self._nobody, password)

    async def renewed(self, hashed: str, password: str) -> str | None:
        """Hash a password anew that was just found right, if its hash is outdated.

        None if it is not, or if we are busy: the next log-in will do.
        """
        if not self.outdated(hashed):
            return None
        try:
            fresh = await self.hash(password)
        except Refused:
            return None
        self._metrics.rehashes.inc()
        return fresh

    def outdated(self, hashed: str) -> bool:
        """Whether a hash was made with less than our parameters or without our pepper. Raises InvalidHashError."""
        plain, key_id = _without_key_id(hashed)
        return key_id != (self._current and self._current.key_id) or self._is_weaker(extract_parameters(plain))

    def close(self) -> None:
        """Drop what waits and let the threads end by themselves."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _is_weaker(self, used: Parameters) -> bool:
        ours = self._hasher
        if used.type is not ours.type:
            return True
        return any(
            theirs < least
            for theirs, least in (
                (used.version, 0x13),
                (used.memory_cost, ours.memory_cost),
                (used.time_cost, ours.time_cost),
                (used.hash_len, ours.hash_len),
                (used.salt_len, ours.salt_len),
            )
        )

    def _hash(self, password: str) -> str:
        return _with_key_id(self._hasher.hash(_material(password, self._current)), self._current)

    def _verify(self, hashed: str, password: str) -> bool:
        plain, key_id = _without_key_id(hashed)
        pepper = None if key_id is None else self._peppers.get(key_id)
        if key_id is not None and pepper is None:
            log.error("password.pepper_unknown", key_id=key_id)
            plain, _ = _without_key_id(self._nobody)  # the same work, and never right
        try:
            return self._hasher.verify(plain, _material(password, pepper))
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._pending >= self._limit:
            self._metrics.hash_refusals.inc()
            raise busy()
        self._pending += 1
        job = asyncio.get_running_loop().run_in_executor(self._pool, lambda: function(*args, **kwargs))
        job.add_done_callback(self._done)
        return await asyncio.shield(job)

    def _done(self, _: object) -> None:
        self._pending -= 1


def _material(password: str, pepper: Pepper | None) -> bytes:
    raw = normal(password).encode("utf-8", "surrogatepass")
    return raw if pepper is None else pepper.applied(raw)


def _with_key_id(plain: str, pepper: Pepper | None) -> str:
    """Name the pepper as the PHC string format has it, after the parameters."""
    if pepper is None:
        return plain
    head, salt, digest = plain.rsplit("$", 2)
    return f"{head}{_KEY_ID}{pepper.key_id}${salt}${digest}"


def _without_key_id(hashed: str) -> tuple[str, str | None]:
    """Return the hash as libraries read it, and the id of its pepper."""
    head, marker, rest = hashed.partition(_KEY_ID)
    if not marker:
        return hashed, None
    key_id, _, tail = rest.partition("$")
    return f"{head}${tail}", key_id


def _hash_of_nothing(memory_kib: int, passes: int) -> str:
    """Make a hash that no password has: random bytes in the place of salt and hash."""
    salt, digest = (b64encode(os.urandom(size)).rstrip(b"=").decode() for size in (SALT_BYTES, HASH_BYTES))
    return f"$argon2id$v=19$m={memory_kib},t={passes},p={LANES}${salt}${digest}"


def _step_back() -> None:
    """Give this thread less of the processor than the loop's; elsewhere than on Linux, nice is of whole processes."""
    if sys.platform == "linux":
        with suppress(OSError):  # a sandbox may forbid it
            os.nice(NICENESS)
