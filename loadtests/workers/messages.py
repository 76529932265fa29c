"""What the parent and the processes of the generator say to each other: JSON, a line each."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec

from gateway.types import Position
from loadtests.kit.target import Target
from loadtests.oracle import LogDump, PageDump, plain, revived

LONGEST: Final = 1 << 30  # bytes of a line; the findings of a long run are large


class Begin(msgspec.Struct, tag="begin", frozen=True, kw_only=True):
    """Play this share; `origin` is the zero of the run, in µs of CLOCK_MONOTONIC. `cores` empty: any."""

    profile: dict[str, Any]
    target: Target
    part: int
    of: int
    run: str  # a few letters that no other run has: in names of users and channels
    origin: int
    cores: list[int] = []


class Timing(msgspec.Struct, tag="timing", frozen=True, kw_only=True):
    """Everybody is ready: so it goes on, in µs of CLOCK_MONOTONIC. Said again when a run is to end early."""

    warm_up: int
    measure: int
    settle: int


class Finish(msgspec.Struct, tag="finish", frozen=True):
    """Nothing is on its way any more, or nobody waits for it: say what you found, and end."""


class Ready(msgspec.Struct, tag="ready", frozen=True):
    """All connections of this process stand."""


class Tick(msgspec.Struct, tag="tick", frozen=True, kw_only=True):
    """What happened in one second of the run; counts are of this second alone, `busy` and `starved` shares of it."""

    at: int
    connected: int = 0
    published: int = 0
    acknowledged: int = 0
    delivered: int = 0
    errors: int = 0
    closes: dict[str, int] = {}
    refusals: dict[str, int] = {}
    delivery: str = ""  # a histogram, µs
    busy: float = 0.0  # CPU time
    starved: float = 0.0  # time in which it wanted a core and had none
    standing: int = 0  # clients that are where they want to be
    clients: int = 0
    pending: int = 0  # answers that are still to come
    played: bool = False  # the scenario has returned


class Findings(msgspec.Struct, tag="findings", frozen=True, kw_only=True):
    """What one process leaves behind; histograms in µs by name, `lag` in ms. `tops`: where the streams stand."""

    histograms: dict[str, str]
    pages: dict[str, PageDump]
    logs: list[LogDump]
    tops: dict[str, Position]
    remarks: list[str]
    faults: list[str]
    figures: dict[str, float]
    connections: int
    lag: float
    behind: int = 0  # publications that were due, and for which it came too late to send them


class Failed(msgspec.Struct, tag="failed", frozen=True):
    """The run cannot go on. `bad`: what was asked for is to blame, and the text says what to do; else it is a crash."""

    text: str
    bad: bool = False


Order: TypeAlias = Begin | Timing | Finish
Word: TypeAlias = Ready | Tick | Findings | Failed

_ORDERS: Final[msgspec.json.Decoder[Order]] = msgspec.json.Decoder(Order)
_WORDS: Final[msgspec.json.Decoder[Word]] = msgspec.json.Decoder(Word, dec_hook=revived)


def line(message: Order | Word) -> bytes:
    """Return a message as it is sent."""
    return msgspec.json.encode(message, enc_hook=plain) + b"\n"


def order(text: bytes) -> Order:
    """Read what the parent says."""
    return _ORDERS.decode(text)


def word(text: bytes) -> Word:
    """Read what a process says."""
    return _WORDS.decode(text)
