"""What every part of the settings tree has in common."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

MASK = "**********"


class Section(BaseModel):
    """A frozen part of the tree; a name it does not know is a fault."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=False, hide_input_in_errors=True)


def mask_password(url: str) -> str:
    """Return the URL with the password in it, if any, replaced by stars."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return MASK
    if parts.password is None:
        return url
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:{MASK}@{parts.netloc.rpartition('@')[2]}"))


SecretUrl = Annotated[str, Field(repr=False), PlainSerializer(mask_password, return_type=str, when_used="json")]
"""A URL that may hold a password: a plain string in use, masked whenever it is shown."""
