"""Where the streams stand, when several processes have asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from gateway.types import Position
from loadtests.oracle.log import Log
from loadtests.oracle.offences import Offence


def agreed(found: Iterable[Mapping[str, Position]], logs: Iterable[Log]) -> tuple[dict[str, Position], list[Offence]]:
    """Return where each channel's stream stands, and where the processes contradict each other.

    Of one epoch the furthest counts: who asked earlier saw less. A process that saw no epoch knows less than one that
    did. Two epochs are a contradiction, unless somebody was told that the stream began anew.
    """
    seen: dict[str, dict[str, Position]] = {}
    for tops in found:
        for channel, top in tops.items():
            epochs = seen.setdefault(channel, {})
            if top.offset >= epochs.get(top.epoch, top).offset:
                epochs[top.epoch] = top
    listeners: dict[str, list[Log]] = {}
    for log in logs:
        listeners.setdefault(log.channel, []).append(log)
    settled, offences = dict[str, Position](), list[Offence]()
    for channel, epochs in seen.items():
        known = [it for it in epochs.values() if it.epoch] or list(epochs.values())
        settled[channel] = newest = _newest(known, listeners.get(channel, []))
        if len(known) > 1 and not any(it.tells for it in listeners.get(channel, [])):
            others = ", ".join(repr(it.epoch) for it in known if it is not newest)
            detail = f"while another process saw the stream in {others}, and nobody was told"
            offences.append(Offence("silent epoch", channel, "", newest.epoch, newest.offset, 0, detail))
    return settled, offences


def _newest(known: Sequence[Position], logs: Sequence[Log]) -> Position:
    """Return the position of the epoch into which most clients followed the stream."""
    followed = Counter(it.epochs[-1] for it in logs if len(it.epochs) > 1)
    return max(known, key=lambda it: followed[it.epoch])
