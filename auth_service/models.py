"""The tables. Times are Unix seconds; whoever changes a table adds a migration."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Double, ForeignKey, Integer, LargeBinary, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Holds the metadata of all tables."""


class User(Base):
    """Someone who can log in. The name is the user id in tokens and never changes."""

    __tablename__ = "users"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    folded: Mapped[str] = mapped_column(String(64), unique=True)  # so that "Alice" cannot pose as "alice"
    password_hash: Mapped[str] = mapped_column(String(512))
    created_at: Mapped[float] = mapped_column(Double)
    disabled_at: Mapped[float | None] = mapped_column(Double)
    roles: Mapped[list[str]] = mapped_column(JSON, default=list)  # claim `roles`, and what the policy decides by
    info: Mapped[Any] = mapped_column(JSON(none_as_null=True), nullable=True)  # claim `info`; None: no such claim
    channels: Mapped[list[str]] = mapped_column(JSON, default=list)  # claim `channels`; empty: no such claim


class Session(Base):
    """One log-in, and all tokens that descend from it (their claim `sid`): the family of refresh tokens."""

    __tablename__ = "sessions"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    user: Mapped[str] = mapped_column(ForeignKey("users.name", ondelete="CASCADE"), index=True)
    created_at: Mapped[float] = mapped_column(Double)
    used_at: Mapped[float] = mapped_column(Double)  # log-in or last refresh
    ends_at: Mapped[float] = mapped_column(Double)
    ended_at: Mapped[float | None] = mapped_column(Double)
    ended_by: Mapped[str | None] = mapped_column(String(16))  # logout, revoked, reuse, password, disabled
    agent: Mapped[str] = mapped_column(String(200), default="")  # as the client calls itself, for a list of sessions
    address: Mapped[str] = mapped_column(String(64), default="")


class RefreshToken(Base):
    """A refresh token by its SHA-256; used ones are kept to their end, so that a second use is noticed."""

    __tablename__ = "refresh_tokens"

    digest: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    session_id: Mapped[str] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"), index=True)
    expires_at: Mapped[float] = mapped_column(Double, index=True)
    used_at: Mapped[float | None] = mapped_column(Double)
    # The token that took its place, readable only with this token's own value: for the client that lost the answer.
    successor: Mapped[bytes | None] = mapped_column(LargeBinary(96))


class Throttle(Base):
    """Failed log-ins of one account, one address, or one known device."""

    __tablename__ = "throttles"

    key: Mapped[str] = mapped_column(String(80), primary_key=True)  # kind and SHA-256 of the name: no names are kept
    failures: Mapped[int] = mapped_column(Integer, default=0)
    since: Mapped[float] = mapped_column(Double)  # of the window in which failures count
    open_at: Mapped[float] = mapped_column(Double)  # no attempt before
    purge_at: Mapped[float] = mapped_column(Double, index=True)


class Closure(Base):
    """What the gateway must be told, until it has been told: a session, key or user whose tokens end now."""

    __tablename__ = "closures"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)  # idempotent there
    kind: Mapped[str] = mapped_column(String(8))  # sid, kid, user
    value: Mapped[str] = mapped_column(String(128))
    until: Mapped[float] = mapped_column(Double)  # the last token that it concerns has expired
    made_at: Mapped[float] = mapped_column(Double)
    next_try_at: Mapped[float] = mapped_column(Double, index=True)
    tries: Mapped[int] = mapped_column(Integer, default=0)
