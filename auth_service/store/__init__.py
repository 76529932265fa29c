"""Users, sessions and refresh tokens in a database. Times are Unix seconds, and given by the caller."""

from __future__ import annotations

from auth_service.store.database import Transactions, migrated, open_database
from auth_service.store.records import Account, Claims, Ending, Listed, Live, Login, Outbox, Reused, Rotated
from auth_service.store.sessions import Sessions
from auth_service.store.users import Users

__all__ = [
    "Account",
    "Claims",
    "Ending",
    "Listed",
    "Live",
    "Login",
    "Outbox",
    "Reused",
    "Rotated",
    "Sessions",
    "Transactions",
    "Users",
    "migrated",
    "open_database",
]
