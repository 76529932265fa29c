"""Counts what was due while measuring and never arrived, so that latencies can count it: lost, in doubt or missed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from gateway.types import Position
from loadtests.oracle.ledger import Ledger, Page
from loadtests.oracle.log import Log


def unanswered(ledger: Ledger) -> int:
    """Count the publications that nobody ever acknowledged or refused."""
    return sum(len(ledger.page(it).endings.unanswered()) for it in ledger.channels)


def unheard(ledger: Ledger, logs: Iterable[Log], tops: Mapping[str, Position], *, unkept: Collection[str] = ()) -> int:
    """Count the deliveries that never came; the arguments are those of `verify`.

    A client that stayed away by its own will misses nothing, one that lost its connection misses all that was due: it
    cannot know that nobody would have called that a loss.
    """
    nowhere: dict[str, int] = {}
    count = 0
    for log in logs:
        if log.timed and log.channel in unkept:
            count += _unheard(log, ledger.page(log.channel))
        elif log.timed:
            if log.channel not in nowhere:
                nowhere[log.channel] = _nowhere(ledger.page(log.channel))
            count += _unseen(log, ledger.page(log.channel), tops.get(log.channel))
            count += nowhere[log.channel] * (log.listening or log.torn)
    return count


def _unheard(log: Log, page: Page) -> int:
    """Without offsets the numbers must do."""
    holes = [*log.hearing.holes, *log.hearing.absences]
    if log.listening or log.torn:
        holes += log.hearing.tail(page.endings.newest)
    return sum(page.endings.measured_in(*it) for it in holes)


def _unseen(log: Log, page: Page, top: Position | None) -> int:
    """Return how many places of the stream it passed over, or never reached."""
    places = list(log.missing)
    if (held := log.position) is not None and top is not None and (log.listening or log.torn):
        end = top.offset + 1 if top.epoch == held.epoch else 0
        places += [(held.epoch, it) for it in range(held.offset + 1, end)]
    return sum(_counts(page, page.seen.get(it)) for it in places)


def _counts(page: Page, number: int | None) -> bool:
    """Whether what stands there was due while measuring; so is taken what nobody saw, where anything was."""
    return bool(page.endings.measured) if number is None else page.endings.is_measured(number)


def _nowhere(page: Page) -> int:
    """Count what nobody answered, and nobody saw."""
    seen = {number for number, _ in page.places}
    return sum(it not in seen for it in page.endings.unanswered())
