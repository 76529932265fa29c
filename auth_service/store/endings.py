"""The one way in which sessions end before their time."""

from __future__ import annotations

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from auth_service.models import Session
from auth_service.store.records import Ending, Outbox


async def end_sessions(
    session: AsyncSession,
    outbox: Outbox,
    ending: Ending,
    user: str,
    *,
    only: str | None = None,
    keep: str | None = None,
) -> list[str]:
    """End the sessions of a user, or `only` one, or all but `keep`, in the caller's transaction; return their ids.

    Each goes into the outbox: the gateway closes what it opened.
    """
    query = update(Session).where(Session.user == user, Session.ended_at.is_(None), Session.ends_at > ending.at)
    if only is not None:
        query = query.where(Session.id == only)
    if keep is not None:
        query = query.where(Session.id != keep)
    rows = await session.execute(query.values(ended_at=ending.at, ended_by=ending.by).returning(Session.id))
    ended = list(rows.scalars())
    for each in ended:
        outbox.enter(session, "sid", each, ending.until)
    return ended
