"""What the store gives and takes. Times are Unix seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True, slots=True)
class Claims:
    """What a user's tokens say beside who it is; empty ones are not said."""

    roles: tuple[str, ...] = ()
    info: Any = None
    channels: tuple[str, ...] = ()

    def said(self) -> dict[str, Any]:
        """Return the claims by name."""
        every = {"roles": list(self.roles), "info": self.info, "channels": list(self.channels)}
        return {name: value for name, value in every.items() if value not in (None, [])}


@dataclass(frozen=True, slots=True)
class Account:
    """A user."""

    name: str
    password_hash: str = field(repr=False)
    created_at: float
    disabled_at: float | None = None
    claims: Claims = Claims()


@dataclass(frozen=True, slots=True)
class Login:
    """A session that begins; agent and address are for the eyes of the user."""

    session_id: str
    user: str
    now: float
    ends_at: float
    agent: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Live:
    """A session that has not ended, and what its user may say of itself."""

    session_id: str
    user: str
    created_at: float  # the user's
    claims: Claims


@dataclass(frozen=True, slots=True)
class Listed:
    """A session as a list shows it."""

    session_id: str
    created_at: float
    used_at: float
    ends_at: float
    agent: str
    address: str


@dataclass(frozen=True, slots=True)
class Rotated:
    """A refresh token was used; `again`: it is the answer given before, to a client that lost it."""

    live: Live
    token: str = field(repr=False)
    again: bool = False


@dataclass(frozen=True, slots=True)
class Reused:
    """A refresh token was used that had been used before: its family has ended."""

    session_id: str
    user: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How and when sessions end, and until when the gateway has to remember it."""

    by: str  # logout, revoked, reuse, password, disabled
    at: float
    until: float


class Outbox(Protocol):
    """Where a transaction leaves what the gateway has to be told once it is committed."""

    def enter(self, session: AsyncSession, kind: Literal["sid", "kid", "user"], value: str, until: float) -> None:
        """Add a message to the transaction."""
