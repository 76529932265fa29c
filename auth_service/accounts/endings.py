"""How and when sessions end, and until when the gateway has to remember that they did."""

from __future__ import annotations

from auth_service.settings import AuthSettings
from auth_service.store.records import Ending

_LEEWAY_SECONDS = 60.0  # clocks differ by less


def ending(settings: AuthSettings, by: str, at: float) -> Ending:
    """Return the ending of a session at this Unix time: whatever it got signed has expired at its `until`."""
    longest = max(settings.access_token_seconds, settings.subscription_token_seconds, settings.ticket_seconds)
    return Ending(by, at, at + longest + _LEEWAY_SECONDS)
