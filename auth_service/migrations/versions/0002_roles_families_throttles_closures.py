"""Roles and claims of users, what a session's list shows, successors of refresh tokens, throttles, closures."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_LAST_USE = "SELECT MAX(used_at) FROM refresh_tokens WHERE session_id = sessions.id"


def upgrade() -> None:
    """Widen the three tables, fill what is new, and add two."""
    _users()
    _sessions()
    op.add_column("refresh_tokens", sa.Column("successor", sa.LargeBinary(96)))
    op.create_table(
        "throttles",
        sa.Column("key", sa.String(80), primary_key=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("open_at", sa.Double(), nullable=False),
        sa.Column("purge_at", sa.Double(), nullable=False),
    )
    op.create_index("ix_throttles_purge_at", "throttles", ["purge_at"])
    op.create_table(
        "closures",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("value", sa.String(128), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.Column("made_at", sa.Double(), nullable=False),
        sa.Column("next_try_at", sa.Double(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
    )
    op.create_index("ix_closures_next_try_at", "closures", ["next_try_at"])


def _users() -> None:
    with op.batch_alter_table("users") as users:
        users.alter_column("password_hash", type_=sa.String(512), existing_type=sa.String(255), existing_nullable=False)
        users.add_column(sa.Column("disabled_at", sa.Double()))
        users.add_column(sa.Column("roles", sa.JSON()))
        users.add_column(sa.Column("info", sa.JSON()))
        users.add_column(sa.Column("channels", sa.JSON()))
    op.execute("UPDATE users SET roles = '[]', channels = '[]'")
    with op.batch_alter_table("users") as users:
        users.alter_column("roles", existing_type=sa.JSON(), nullable=False)
        users.alter_column("channels", existing_type=sa.JSON(), nullable=False)


def _sessions() -> None:
    op.add_column("sessions", sa.Column("used_at", sa.Double()))
    op.add_column("sessions", sa.Column("ended_by", sa.String(16)))
    op.add_column("sessions", sa.Column("agent", sa.String(200)))
    op.add_column("sessions", sa.Column("address", sa.String(64)))
    op.execute("UPDATE sessions SET agent = '', address = ''")
    op.execute(f"UPDATE sessions SET used_at = COALESCE(({_LAST_USE}), created_at)")  # noqa: S608 - a constant
    op.execute("UPDATE sessions SET ended_by = 'logout' WHERE ended_at IS NOT NULL")
    with op.batch_alter_table("sessions") as sessions:
        sessions.alter_column("used_at", existing_type=sa.Double(), nullable=False)
        sessions.alter_column("agent", existing_type=sa.String(200), nullable=False)
        sessions.alter_column("address", existing_type=sa.String(64), nullable=False)
