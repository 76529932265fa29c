"""Whoever presents an access token of ours, while its session lasts."""

from __future__ import annotations

from collections.abc import Callable

from auth_service.store import Live, Sessions
from auth_service.tokens import Tokens


class Bearers:
    """`clock` returns the Unix time."""

    def __init__(self, *, tokens: Tokens, sessions: Sessions, clock: Callable[[], float]) -> None:
        self._tokens = tokens
        self._sessions = sessions
        self._clock = clock

    async def session(self, token: str) -> Live | None:
        """Return the session of an access token; None if it has ended. Raises Refused (401) for a bad token."""
        return await self._sessions.live(self._tokens.check(token).session_id, self._clock())
