"""Position, history and what arrived meanwhile: which publications a new subscription begins with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.protocol.values import HistoryPage
from gateway.types import Position, Publication

INVALIDATED = "_"  # the epoch an SDK sends after its state was invalidated: never recovers


@dataclass(slots=True)
class Merge:
    """What a subscription begins with: `publications` oldest first, each once; live delivery goes on after `position`.

    `recovered`: exactly all publications between the client's position and `position` are there. `hole`: what arrived
    meanwhile does not continue the page; reading again may help.
    """

    publications: list[Publication]
    position: Position
    recovered: bool
    hole: bool


def merge(page: HistoryPage, buffered: Sequence[Publication], since: Position | None) -> Merge:
    """Join a page with the publications that arrived since before it was read.

    `page` is what follows `since`, or the newest few when `since` is None. `buffered` may come in any order, repeat
    itself, and hold other epochs; publications without offset are ignored. Not recovered means no publications.
    """
    epoch = page.top.epoch
    known = {it.offset: it for it in page.publications}
    foreign = False
    highest = page.top.offset
    for it in buffered:
        if it.offset == 0:
            continue
        if it.epoch != epoch:
            foreign = True
            continue
        known.setdefault(it.offset, it)
        highest = max(highest, it.offset)
    top = page.top.offset
    while top + 1 in known:
        top += 1
    # another epoch began before or after the page was read; which of the two, only another page can tell
    hole = foreign or highest > top
    position = Position(top, epoch)
    if since is None:
        oldest = min((it.offset for it in page.publications), default=page.top.offset + 1)
        return Merge(_between(known, oldest - 1, top), position, recovered=False, hole=hole)
    missed = _between(known, since.offset, top) if _same_stream(since, page.top) and not hole else []
    recovered = not hole and _same_stream(since, page.top) and len(missed) == top - since.offset
    return Merge(missed if recovered else [], position, recovered=recovered, hole=hole)


def _same_stream(since: Position, top: Position) -> bool:
    return since.epoch != INVALIDATED and since.epoch in {"", top.epoch} and since.offset <= top.offset


def _between(known: dict[int, Publication], after: int, top: int) -> list[Publication]:
    return [known[offset] for offset in sorted(known) if after < offset <= top]
