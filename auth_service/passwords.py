"""Password hashes: Argon2id, in a few threads, never on the event loop."""

from __future__ import annotations

import asyncio
import os
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from auth_service.errors import busy

# OWASP Password Storage Cheat Sheet: the least that is advised
MEMORY_KIB = 19_456
PASSES = 2
LANES = 1
SALT_BYTES = 16
HASH_BYTES = 32

P = ParamSpec("P")
T = TypeVar("T")


class Passwords:
    """Hashes and verifies, `workers` at once; over `limit` waiting or at work it refuses (503).

    Cancelling a call does not stop the hash that is being computed; its place is free when it is done.
    """

    def __init__(self, *, workers: int, limit: int) -> None:
        self._hasher = PasswordHasher(
            time_cost=PASSES,
            memory_cost=MEMORY_KIB,
            parallelism=LANES,
            hash_len=HASH_BYTES,
            salt_len=SALT_BYTES,
            type=Type.ID,
        )
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="argon2")
        self._limit = limit
        self._pending = 0
        self._nobody = _hash_of_nothing()

    @property
    def pending(self) -> int:
        """How many are waiting or at work."""
        return self._pending

    async def hash(self, password: str) -> str:
        """Return the hash in PHC form. Raises Refused when busy."""
        return await self._run(self._hasher.hash, password)

    async def verify(self, hashed: str | None, password: str) -> bool:
        """Whether the password is right. None, for an unknown user, costs the same and is never right."""
        return await self._run(self._verify, hashed or self._nobody, password)

    def outdated(self, hashed: str) -> bool:
        """Whether a hash was made with other parameters than ours."""
        return self._hasher.check_needs_rehash(hashed)

    def close(self) -> None:
        """Drop what waits and let the threads end by themselves."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _verify(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._pending >= self._limit:
            raise busy()
        self._pending += 1
        job = asyncio.get_running_loop().run_in_executor(self._pool, lambda: function(*args, **kwargs))
        job.add_done_callback(self._done)
        return await asyncio.shield(job)

    def _done(self, _: object) -> None:
        self._pending -= 1


def _hash_of_nothing() -> str:
    """Make a hash that no password has: random bytes in the place of salt and hash."""
    salt, digest = (b64encode(os.urandom(size)).rstrip(b"=").decode() for size in (SALT_BYTES, HASH_BYTES))
    return f"$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${salt}${digest}"
