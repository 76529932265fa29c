"""Tokens already found good, so that a storm of reconnects does not pay for their signatures again. Pure."""

from __future__ import annotations

from collections import OrderedDict

from gateway.types import Identity


class TokenCache:
    """Identities by the SHA-256 of their token, least recently used out first.

    Keeps no token. An entry ends with its token. Entries go by token or session at once, by key in O(entries).
    """

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[bytes, tuple[Identity, float]] = OrderedDict()
        self._by_token_id = _Index()
        self._by_session = _Index()

    def __len__(self) -> int:
        """Return how many tokens are remembered."""
        return len(self._entries)

    def get(self, digest: bytes, now: float) -> Identity | None:
        """Return the identity if the token was found good before and has not ended at wall clock `now`."""
        entry = self._entries.get(digest)
        if entry is None:
            return None
        identity, until = entry
        if now >= until:
            self._drop(digest)
            return None
        self._entries.move_to_end(digest)
        return identity

    def put(self, digest: bytes, identity: Identity, until: float) -> None:
        """Keep an identity up to wall clock `until`."""
        self._drop(digest)
        self._entries[digest] = (identity, until)
        self._by_token_id.add(identity.token_id, digest)
        self._by_session.add(identity.session_id, digest)
        if len(self._entries) > self._limit:
            self._drop(next(iter(self._entries)))

    def drop_token(self, token_id: str) -> None:
        """Forget the token with this `jti`, in all its spellings."""
        for digest in self._by_token_id.find(token_id):
            self._drop(digest)

    def drop_session(self, session_id: str) -> None:
        """Forget all tokens with this `sid`."""
        for digest in self._by_session.find(session_id):
            self._drop(digest)

    def drop_key(self, key_id: str) -> None:
        """Forget all tokens signed with this key."""
        for digest in [digest for digest, (identity, _) in self._entries.items() if identity.key_id == key_id]:
            self._drop(digest)

    def _drop(self, digest: bytes) -> None:
        entry = self._entries.pop(digest, None)
        if entry is not None:
            self._by_token_id.remove(entry[0].token_id, digest)
            self._by_session.remove(entry[0].session_id, digest)


class _Index:
    """Name to digests. Mostly it is one, for which a set would weigh more than the entry; somebody may have thousands.

    No call but `find` takes longer the more there are.
    """

    def __init__(self) -> None:
        self._digests: dict[str, bytes | set[bytes]] = {}

    def find(self, name: str) -> tuple[bytes, ...]:
        found = self._digests.get(name, ())
        return (found,) if isinstance(found, bytes) else tuple(found)

    def add(self, name: str, digest: bytes) -> None:
        if not name:
            return
        before = self._digests.setdefault(name, digest)
        if isinstance(before, set):
            before.add(digest)
        elif before != digest:
            self._digests[name] = {before, digest}

    def remove(self, name: str, digest: bytes) -> None:
        before = self._digests.get(name)
        if isinstance(before, set):
            before.discard(digest)
            if len(before) == 1:
                self._digests[name] = before.pop()
        elif before == digest:
            del self._digests[name]
