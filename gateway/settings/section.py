"""What every part of the settings tree has in common."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

MASK = "**********"


class Section(BaseModel):
    """A frozen part of the tree; a name it does not know is a fault."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=False, hide_input_in_errors=True)


_NEXT_URL: Final = re.compile(r",(?=\s*[a-z][a-z0-9+.-]*://)")
_LOGIN: Final = re.compile(r"(://[^:/?#@]*):.*@", re.DOTALL)  # to the last @: a password may hold what it should not
_OPTION: Final = re.compile(r"([?&][^=&]*password=)[^&]*", re.IGNORECASE)


def mask_password(urls: str) -> str:
    """Return the URL, or several in a row, with all passwords replaced by stars."""
    masked = (_LOGIN.sub(rf"\1:{MASK}@", _OPTION.sub(rf"\1{MASK}", url)) for url in _NEXT_URL.split(urls))
    return ",".join(masked)


SecretUrl = Annotated[str, Field(repr=False), PlainSerializer(mask_password, return_type=str, when_used="json")]
"""A URL that may hold a password: a plain string in use, masked whenever it is shown."""
