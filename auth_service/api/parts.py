"""What the routes work with, made once by the app."""

from __future__ import annotations

from dataclasses import dataclass

from auth_service.accounts.bearers import Bearers
from auth_service.accounts.families import Families
from auth_service.accounts.grants import Grants
from auth_service.accounts.login import Accounts
from auth_service.settings import AuthSettings


@dataclass(frozen=True, slots=True)
class Parts:
    """The rules, and the settings that answers need."""

    accounts: Accounts
    families: Families
    grants: Grants
    bearers: Bearers
    settings: AuthSettings
