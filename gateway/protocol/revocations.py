"""What has been revoked: which tokens are barred, and up to when. Pure."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from math import floor
from typing import Final

import msgspec

from gateway.protocol.messages import Revoke
from gateway.types import Identity

LIMIT: Final = 50_000  # revocations, of which each takes about 1 KB of a node
_SLACK: Final = 64  # entries of the heap beyond twice what it is for


def subject(revocation: Revoke) -> tuple[str, str]:
    """Return what a revocation is about: the kind, by the name of its claim or header, and the value."""
    if revocation.session_id:
        return "sid", revocation.session_id
    if revocation.token_id:
        return "jti", revocation.token_id
    if revocation.key_id:
        return "kid", revocation.key_id
    return "user", revocation.user


class Denylist:
    """Revocations by what they are about; each goes at its `until`. `now` is wall clock everywhere.

    Of two about the same thing the later end counts, and of a user the later `issued_before`; code and reason are
    those of the later call. Beyond `limit` those that end soonest go early.
    """

    def __init__(self, *, limit: int = LIMIT) -> None:
        self.size = 0  # an attribute, because it is looked at for every token
        self._limit = limit
        self._sessions: dict[str, Revoke] = {}
        self._tokens: dict[str, Revoke] = {}
        self._keys: dict[str, Revoke] = {}
        self._users: dict[str, Revoke] = {}
        self._by_kind = {"sid": self._sessions, "jti": self._tokens, "kid": self._keys, "user": self._users}
        self._ends: list[tuple[float, str, str]] = []  # a heap; what came twice stands there twice

    def add(self, revocation: Revoke, now: float) -> int:
        """Bar the tokens concerned; returns how many revocations had to go early."""
        self.expire(now)  # what has ended must not widen what begins
        kind, value = subject(revocation)
        entries = self._by_kind[kind]
        before = entries.get(value)
        if before is None:
            self.size += 1
        else:
            revocation = msgspec.structs.replace(
                revocation,
                until=max(before.until, revocation.until),
                issued_before=max(before.issued_before, revocation.issued_before),
            )
        entries[value] = revocation
        heappush(self._ends, (revocation.until, kind, value))
        self.expire(now)
        return self._shorten()

    def find(self, identity: Identity, now: float) -> Revoke | None:
        """Return what bars the token that made this identity; None: nothing does."""
        self.expire(now)
        found = (
            self._sessions.get(identity.session_id)
            or self._tokens.get(identity.token_id)
            or self._keys.get(identity.key_id)
        )
        if found is None:
            found = self._users.get(identity.user)
            if found is not None and identity.issued_at is not None and floor(identity.issued_at) > found.issued_before:
                return None
        return found

    def bars_key(self, key_id: str, now: float) -> bool:
        """Whether a key is barred, whatever a token says that names it."""
        self.expire(now)
        return key_id in self._keys

    def expire(self, now: float) -> None:
        """Forget what has ended."""
        while self._ends and self._ends[0][0] <= now:
            self._drop_first()

    def _shorten(self) -> int:
        early = 0
        while self.size > self._limit:
            early += self._drop_first()
        if len(self._ends) > 2 * self.size + _SLACK:
            self._ends = [
                (it.until, kind, value) for kind, entries in self._by_kind.items() for value, it in entries.items()
            ]
            heapify(self._ends)
        return early

    def _drop_first(self) -> bool:
        end, kind, value = heappop(self._ends)
        entry = self._by_kind[kind].get(value)
        if entry is None or entry.until != end:
            return False  # it ends later by now, or has gone
        del self._by_kind[kind][value]
        self.size -= 1
        return True
