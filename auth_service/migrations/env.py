"""Alembic's way in: the connection and its transaction are the caller's."""

from __future__ import annotations

from alembic import context

from auth_service.models import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()
