"""Data that is JSON and still unfit for other people's parsers: a client that publishes it would harm its readers."""

from __future__ import annotations

import re
from typing import Final

DEEPEST: Final = 60  # arrays and objects in one another; four more around it make 64, where .NET stops by default
LONGEST_NUMBER: Final = 1_000  # digits on end, where Jackson stops; Python refuses to make an integer of 4,301

_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_LONG_NUMBER: Final = re.compile(rb"[0-9]{%d}" % LONGEST_NUMBER)
_DIGITS: Final = b"0123456789"
_ALIKE: Final = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_OPEN: Final = ord("[")
_TOO_SHORT: Final = 2 * (DEEPEST + 1)  # bytes: what opens is closed again


def unfit(data: bytes) -> str:
    """Return what is wrong with valid JSON as data for others, "" for nothing. On the hot path.

    The range of numbers is not looked at, nor are keys that stand twice: parsers differ in what they make of these,
    but none fails that keeps the data as it came.
    """
    if len(data) < _TOO_SHORT:
        return ""
    if data.count(b"[") + data.count(b"{") <= DEEPEST and not _may_hold_long_number(data):
        return ""
    bare = _STRING.sub(b"", data)
    if _LONG_NUMBER.search(bare):
        return f"data holds a number of {LONGEST_NUMBER} digits or more"
    if _is_too_deep(bare.translate(_ALIKE, _NO_BRACKETS)):
        return f"data is nested more than {DEEPEST} deep"
    return ""


def _may_hold_long_number(data: bytes) -> bool:
    """So many digits on end stand on one of the places that are a multiple of as many."""
    if len(data) < LONGEST_NUMBER:
        return False
    sample = data[LONGEST_NUMBER - 1 :: LONGEST_NUMBER]
    return len(sample.translate(None, _DIGITS)) < len(sample)


def _is_too_deep(brackets: bytes) -> bool:
    """Count levels; the innermost three are taken away first, at once, and with them most of what is wide."""
    depth = 3
    for _ in range(depth):
        brackets = brackets.replace(b"[]", b"")
    for bracket in brackets:
        depth += 1 if bracket == _OPEN else -1
        if depth > DEEPEST:
            return True
    return False
