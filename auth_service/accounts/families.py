"""Sessions after the log-in: refresh, list, end. A session is the family of its refresh tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from auth_service.accounts.endings import ending
from auth_service.accounts.login import TokenPair
from auth_service.audit import Audit
from auth_service.errors import Refused, invalid_token
from auth_service.metrics import Metrics
from auth_service.settings import AuthSettings
from auth_service.store import Listed, Live, Reused, Sessions
from auth_service.tokens import Tokens

LISTED = 100  # sessions in a list: the ones last used


class Families:
    """The rules. `clock` returns the Unix time; `wake` is called when the gateway has something to be told.

    All methods may raise Refused, and SQLAlchemyError when the database is away.
    Cancelling a method leaves the database as before it or as after it.
    """

    def __init__(
        self,
        *,
        sessions: Sessions,
        tokens: Tokens,
        settings: AuthSettings,
        metrics: Metrics,
        audit: Audit,
        wake: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._sessions = sessions
        self._tokens = tokens
        self._settings = settings
        self._metrics = metrics
        self._audit = audit
        self._wake = wake
        self._clock = clock

    async def refresh(self, refresh_token: str, address: str) -> TokenPair:
        """Use a refresh token up and give the next pair.

        Who lost the answer may ask again for a few seconds, and gets the same refresh token. After that a second use
        means that there are two holders of one token: the session ends for both.
        """
        done = await self._sessions.rotate(refresh_token, ending(self._settings, "reuse", self._clock()))
        if done is None or isinstance(done, Reused):
            self._metrics.refreshes.labels("refused").inc()
            self._refused(done, address)
            raise invalid_token("the refresh token is not valid")
        self._metrics.refreshes.labels("again" if done.again else "ok").inc()
        self._metrics.tokens.labels("access").inc()
        self._metrics.tokens.labels("refresh").inc(0 if done.again else 1)
        live = done.live
        self._audit.note("refresh", result="ok", user=live.user, session=live.session_id, address=address)
        return TokenPair(live.user, self._tokens.access(live), done.token)

    async def of_refresh_token(self, refresh_token: str) -> Live | None:
        """Return the session that a refresh token belongs to, used or not; None if there is nothing left to end."""
        return await self._sessions.of_token(refresh_token, self._clock())

    async def log_out(self, live: Live, address: str, *, everywhere: bool) -> None:
        """End a session, or all sessions of its user."""
        end = ending(self._settings, "logout", self._clock())
        if everywhere:
            ended: Sequence[str] = await self._sessions.end_all(live.user, end)
        else:
            ended = [live.session_id] if await self._sessions.end(live.session_id, live.user, end) else []
        self._metrics.logouts.inc(len(ended))
        for each in ended:
            self._audit.note("logout", result="ok", user=live.user, session=each, address=address)
        self._wake()

    async def listed(self, live: Live) -> list[Listed]:
        """Return the user's sessions, the one last used first."""
        return await self._sessions.of_user(live.user, self._clock(), limit=LISTED)

    async def revoke(self, live: Live, session_id: str, address: str) -> None:
        """End one of the user's sessions from another one. Raises Refused (404) if there is none of this id."""
        end = ending(self._settings, "revoked", self._clock())
        ended = await self._sessions.end(session_id, live.user, end)
        result = "ok" if ended else "refused"
        self._audit.note("session_revoked", result=result, user=live.user, session=session_id, address=address)
        if not ended:
            raise Refused(404, "not_found", "there is no such session, or it has ended")
        self._wake()

    def _refused(self, done: Reused | None, address: str) -> None:
        if done is None:
            self._audit.note("refresh", result="refused", address=address)
            return
        self._metrics.refresh_reuse.inc()
        self._audit.note("refresh_reuse", result="ended", user=done.user, session=done.session_id, address=address)
        self._wake()
