"""Records with some fields changed, whichever kind of record they are."""

from __future__ import annotations

from typing import Any, TypeVar

from gateway.types import Compact, Record

T = TypeVar("T", bound=Record | Compact)


def changed(record: T, **fields: Any) -> T:
    """Return a copy with these fields instead."""
    kind = type(record)
    return kind(**{name: getattr(record, name) for name in kind.__match_args__} | fields)
