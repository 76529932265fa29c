"""What the commands share: how they read names, write tables, times and counts, and get at the database."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from auth_service.accounts.names import USER_NAME
from auth_service.settings import AuthSettings

if TYPE_CHECKING:  # heavy, see `operate`
    from auth_service.commands.operating import Operator


def operate(settings: AuthSettings, work: Callable[[Operator], Awaitable[None]]) -> None:
    """Do some work on the database. Raises OperatorError."""
    from auth_service.commands import operating  # noqa: PLC0415 - heavy: help and refusals do without

    operating.operate(settings, work)


def fault_of_name(name: str) -> str | None:
    """Return what is wrong with the name of a user; None if it may be one."""
    return None if re.fullmatch(USER_NAME, name) else "a name is 1 to 64 of A-Z a-z 0-9 _ . -"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield lines with their columns below each other."""
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()


def moment(unix: float) -> str:
    """Return a Unix time as people read it, in UTC."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def count(number: int, what: str) -> str:
    """Return a number of things."""
    return f"{number} {what}{'' if number == 1 else 's'}"
