"""Which passwords may be chosen: long enough, not among the common ones, not the user's name."""

from __future__ import annotations

import unicodedata
from functools import cache
from importlib.resources import files

LEAST = 8
MOST = 1024  # characters; hashing costs the same for all
BESIDE_THE_NAME = 5  # characters that are left when the name is taken out

_BEFORE_THE_LIST = f"{'-' * 80}\n"


def fault(password: str, username: str) -> str | None:
    """Return what is wrong with a new password, in words for the user; None if it may be chosen.

    Any characters may be used and none must be (NIST SP 800-63B 5.1.1.2, OWASP ASVS 6.2). Passwords that are in use
    are never asked: who has one of before keeps it.
    """
    text = normal(password)
    if len(text) < LEAST:
        return f"a password has at least {LEAST} characters"
    if len(text) > MOST:
        return f"a password has at most {MOST} characters"
    folded = text.casefold()
    if folded in _common() or folded.strip() in _common():
        return "this password is among the first that others try, choose another"
    if _is_little_more_than(folded, username.casefold()):
        return "a password must be more than the username"
    return None


def normal(password: str) -> str:
    """Return the one form (NFC, as RFC 8265 says) of what keyboards send in several."""
    return unicodedata.normalize("NFC", password)


def _is_little_more_than(folded: str, name: str) -> bool:
    if not name:
        return False
    shortest = min((folded.replace(each, "") for each in (name, name[::-1])), key=len)
    return shortest != folded and len(shortest) < BESIDE_THE_NAME


@cache
def _common() -> frozenset[str]:
    text = (files("auth_service.passwords") / "data" / "common_passwords.txt").read_text(encoding="utf-8")
    return frozenset(text.partition(_BEFORE_THE_LIST)[2].split("\n")) - {""}
