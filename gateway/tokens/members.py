"""JSON objects that name a member twice, on whose meaning no two readers need agree. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence


def check_once(text: bytes) -> None:
    """Raise ValueError if an object in this JSON, at whatever depth, has two members of one name (RFC 7519 section 4).

    The text is JSON that was read before.
    """
    json.loads(text.decode(), object_pairs_hook=_once, parse_int=_nothing, parse_float=_nothing)


def _once(members: Sequence[tuple[str, object]]) -> None:
    if len({name for name, _ in members}) != len(members):
        raise ValueError("a name stands twice")


def _nothing(_: str) -> None:
    """Make no number: one with a million digits would take long, and none is looked at."""
