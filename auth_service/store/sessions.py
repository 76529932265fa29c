"""Sessions and their refresh tokens in the database; each method is one transaction."""

from __future__ import annotations

from sqlalchemy import Row, Select, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from auth_service.models import RefreshToken, Session, User
from auth_service.store import refresh_tokens
from auth_service.store.database import Transactions
from auth_service.store.endings import end_sessions
from auth_service.store.records import Ending, Listed, Live, Login, Outbox, Reused, Rotated
from auth_service.store.users import claims_of


class Sessions:
    """A refresh token is good for `idle_seconds`; for `grace_seconds` after its use it gives its successor again."""

    def __init__(
        self, transactions: Transactions, outbox: Outbox, *, idle_seconds: float, grace_seconds: float
    ) -> None:
        self._transactions = transactions
        self._outbox = outbox
        self._idle_seconds = idle_seconds
        self._grace_seconds = grace_seconds

    async def begin(self, login: Login, token: str, *, verified: str) -> Live | None:
        """Enter a session with its first refresh token.

        None if the user was disabled, or has another password hash than the one that was `verified`.
        """
        async with self._transactions.begin() as session:
            user = await session.scalar(
                select(User)
                .where(User.name == login.user, User.disabled_at.is_(None), User.password_hash == verified)
                .with_for_update(read=True)  # who changes either has to wait, and then finds this session
            )
            if user is None:
                return None
            session.add(
                Session(
                    id=login.session_id,
                    user=user.name,
                    created_at=login.now,
                    used_at=login.now,
                    ends_at=login.ends_at,
                    agent=login.agent,
                    address=login.address,
                )
            )
            await session.flush()
            session.add(self._row(login.session_id, token, login.now))
            return Live(login.session_id, user.name, user.created_at, claims_of(user))

    async def rotate(self, token: str, ending: Ending) -> Rotated | Reused | None:
        """Use a refresh token at `ending.at`; None if it is unknown, has expired, or its session has ended.

        However many callers have the same token, all get the same successor, while the grace lasts and the successor
        has not been used. After that somebody has a copy: the session ends as `ending` says.
        """
        following = refresh_tokens.new()
        async with self._transactions.begin() as session:
            used = await session.execute(
                update(RefreshToken)
                .where(RefreshToken.digest == refresh_tokens.digest(token), RefreshToken.used_at.is_(None))
                .where(RefreshToken.expires_at > ending.at)
                .values(used_at=ending.at, successor=refresh_tokens.sealed(following, token))
                .returning(RefreshToken.session_id)
            )
            session_id = used.scalar_one_or_none()
            if session_id is None:
                return await self._used_before(session, token, ending)
            live = await self._locked(session, session_id, ending.at)
            if live is None:
                return None
            await session.execute(  # what was sealed before can be asked for no more
                update(RefreshToken)
                .where(RefreshToken.session_id == session_id, RefreshToken.successor.is_not(None))
                .where(RefreshToken.digest != refresh_tokens.digest(token))
                .values(successor=None)
            )
            await session.execute(update(Session).where(Session.id == session_id).values(used_at=ending.at))
            session.add(self._row(session_id, following, ending.at))
            return Rotated(live, following)

    async def of_token(self, token: str, now: float) -> Live | None:
        """Return the session that a refresh token belongs to, used or not; None if it has ended or nobody knows it."""
        async with self._transactions() as session:
            query = _live(now).join(RefreshToken, RefreshToken.session_id == Session.id)
            found = await session.execute(query.where(RefreshToken.digest == refresh_tokens.digest(token)))
            return _first(found.first())

    async def live(self, session_id: str, now: float) -> Live | None:
        """Return a session; None if it has ended."""
        if not session_id.isprintable():  # nobody's, and PostgreSQL would not read it
            return None
        async with self._transactions() as session:
            return _first((await session.execute(_live(now).where(Session.id == session_id))).first())

    async def of_user(self, user: str, now: float, *, limit: int) -> list[Listed]:
        """Return the sessions of a user that can still be refreshed, the one last used first."""
        query = (
            select(Session)
            .where(Session.user == user, Session.ended_at.is_(None), Session.ends_at > now)
            .where(Session.used_at > now - self._idle_seconds)
            .order_by(Session.used_at.desc(), Session.id)
            .limit(limit)
        )
        async with self._transactions() as session:
            return [_listed(each) for each in await session.scalars(query)]

    async def users(self, now: float) -> list[str]:
        """Return the users who have sessions, by name."""
        query = select(Session.user).where(Session.ended_at.is_(None), Session.ends_at > now).distinct()
        async with self._transactions() as session:
            return list(await session.scalars(query.order_by(Session.user)))

    async def end(self, session_id: str, user: str, ending: Ending) -> bool:
        """End a session of this user; False if there is none that could end."""
        if not session_id.isprintable():  # as above
            return False
        async with self._transactions.begin() as session:
            return bool(await end_sessions(session, self._outbox, ending, user, only=session_id))

    async def end_all(self, user: str, ending: Ending) -> list[str]:
        """End all sessions of a user; return their ids."""
        async with self._transactions.begin() as session:
            return await end_sessions(session, self._outbox, ending, user)

    async def _used_before(self, session: AsyncSession, token: str, ending: Ending) -> Rotated | Reused | None:
        row = await session.get(RefreshToken, refresh_tokens.digest(token))
        if row is None or row.used_at is None:  # unknown, or expired
            return None
        live = await self._locked(session, row.session_id, ending.at)
        if live is None:
            return None
        await session.refresh(row)  # as it is now that nobody else can touch the family
        if row.successor is not None and ending.at - row.used_at <= self._grace_seconds:
            following = refresh_tokens.opened(row.successor, token)
            if following is not None:
                return Rotated(live, following, again=True)
        await end_sessions(session, self._outbox, ending, live.user, only=live.session_id)
        return Reused(live.session_id, live.user)

    async def _locked(self, session: AsyncSession, session_id: str, now: float) -> Live | None:
        """Return a session that nobody ends before the transaction does; None if it has ended."""
        query = _live(now).where(Session.id == session_id).with_for_update(of=Session)
        return _first((await session.execute(query)).first())

    def _row(self, session_id: str, token: str, now: float) -> RefreshToken:
        digest = refresh_tokens.digest(token)
        return RefreshToken(digest=digest, session_id=session_id, expires_at=now + self._idle_seconds)


def _live(now: float) -> Select[Session, User]:
    return (
        select(Session, User)
        .join(User, User.name == Session.user)
        .where(Session.ended_at.is_(None), Session.ends_at > now, User.disabled_at.is_(None))
    )


def _first(row: Row[Session, User] | None) -> Live | None:
    return None if row is None else Live(row[0].id, row[1].name, row[1].created_at, claims_of(row[1]))


def _listed(row: Session) -> Listed:
    return Listed(row.id, row.created_at, row.used_at, row.ends_at, row.agent, row.address)
