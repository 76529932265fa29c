"""The tables' forms from release to release, as Alembic revisions; the last one is what models.py says."""

from __future__ import annotations

from sqlalchemy import Connection, inspect, text

HEAD = "0002"  # the last of versions/, known here so that a start without work need not load Alembic


def revision(connection: Connection) -> str | None:
    """Return the revision of the tables; None = there are none yet, or they are older than revisions."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found
