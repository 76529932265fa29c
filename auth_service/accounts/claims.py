"""What an operator may have a user's tokens say."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from auth_service.errors import OperatorError
from auth_service.store.records import Claims

MOST_BYTES = 2048  # of roles, info and channels together; a token is in headers and URLs, and may have 4 KiB

_ROLE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_CHANNEL_CHARACTERS = 255


def claims(roles: Sequence[str], info: str | None, channels: Sequence[str]) -> Claims:
    """Return claims of what was typed; `info` is JSON. Raises OperatorError."""
    for role in roles:
        if not _ROLE.fullmatch(role):
            raise OperatorError(f"--role: {role!r} is not 1 to 64 of A-Z a-z 0-9 _ . : -")
    for channel in channels:
        if not 0 < len(channel) <= _CHANNEL_CHARACTERS or not channel.isprintable():
            raise OperatorError(f"--channel: {channel!r} is no name of a channel")
    made = Claims(tuple(dict.fromkeys(roles)), _parsed(info), tuple(dict.fromkeys(channels)))
    if len(json.dumps(made.said()).encode()) > MOST_BYTES:
        raise OperatorError(f"--role, --info, --channel: more than {MOST_BYTES} bytes; tokens must stay small")
    return made


def _parsed(info: str | None) -> object:
    if info is None:
        return None
    try:
        parsed = json.loads(info, parse_constant=_no_number)
        json.dumps(parsed, ensure_ascii=False).encode()  # half a character cannot be said in an answer
    except (ValueError, RecursionError) as error:
        raise OperatorError(f"--info: is not JSON: {error}") from None
    return parsed


def _no_number(word: str) -> object:
    raise ValueError(f"{word} is no number")
