"""Runs the migrations: once, whole, and on tables of the release before the first revision, too."""

from __future__ import annotations

from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from auth_service.errors import OperatorError
from auth_service.migrations import HEAD, revision

FIRST = "0001"  # the tables as they were made before there were revisions

_FOLDER = Path(__file__).parent
_LOCK = 0x61757468  # any number, the same for all: "auth"

log = structlog.get_logger(__name__)


def upgrade(connection: Connection) -> tuple[str | None, str]:
    """Bring the tables to HEAD in the transaction that is open; return the revisions before and after.

    Raises OperatorError if they are of a later release.
    """
    if connection.dialect.name == "postgresql":  # SQLite holds its write lock by now
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    before = revision(connection)
    if before == HEAD:
        return before, HEAD  # somebody else was faster
    config = configured(connection)
    if before is None and inspect(connection).has_table("users"):
        command.stamp(config, FIRST)
    elif before is not None and before not in known():
        raise OperatorError(f"the tables are of a later release (revision {before}); this one knows {HEAD}")
    command.upgrade(config, HEAD)
    log.info("database.migrated", before=before, after=HEAD)
    return before, HEAD


def known() -> set[str]:
    """Return all revisions of this release."""
    return {each.revision for each in ScriptDirectory(str(_FOLDER)).walk_revisions()}


def configured(connection: Connection) -> Config:
    """Return what Alembic's commands need to work on this connection."""
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
