"""Ledgers and logs on their way from the process that kept them to the one that judges."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.types import Position
from loadtests.oracle.offences import Ending, Hole, How, Offence


class PageDump(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """One channel of a ledger; `seen`: epoch, offset, number."""

    acknowledged: int = 0
    newest: dict[int, int] = {}
    newest_acknowledged: dict[int, int] = {}
    others: dict[int, Ending] = {}
    placed: list[tuple[int, Position]] = []
    seen: list[tuple[str, int, int]] = []
    offences: list[Offence] = []
    measured: dict[int, tuple[int, int]] = {}


class LogDump(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """What one client saw in one channel."""

    client: str
    channel: str
    listening: bool = False
    deliveries: int = 0
    position: Position | None = None
    newest: dict[int, int] = {}
    attentive: bool = False
    repeats: int = 0
    tells: dict[How, int] = {}
    epochs: list[str] = []
    missing: list[tuple[str, int]] = []
    offences: list[Offence] = []
    holes: list[Hole] = []
    since: dict[int, int] | None = None
    absences: list[Hole] = []
    twice: int = 0
    timed: bool = True
    torn: bool = False


def plain(value: object) -> object:
    """Return as JSON holds it what a dump holds and JSON does not, for `enc_hook`. Raises TypeError: neither does."""
    if isinstance(value, Position):
        return value.offset, value.epoch
    raise TypeError(f"{value!r} is nothing that a dump holds")


def revived(kind: type[Any], value: Any) -> Any:
    """Return what `plain` was given, for `dec_hook`. Raises TypeError: nothing of this kind, ValueError: damaged."""
    if kind is not Position:
        raise TypeError(f"{kind!r} is nothing that a dump holds")
    offset, epoch = msgspec.convert(value, tuple[int, str])
    return Position(offset, epoch)
