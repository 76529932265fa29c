"""Those who missed something are told a few at a time: a whole channel of them would hold up everybody else."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from gateway.outbox import Flusher
from gateway.recipients import Recipient
from gateway.types import Channel, Position

TURN_RECIPIENTS: Final = 64  # told in one turn of the loop: each ends a subscription, and may begin another
TURN_SECONDS: Final = 0.004


class Telling:
    """Recipients that nothing is passed on to any more, until they have been told that they missed something.

    First come, first told. Who leaves the channel meanwhile is told nothing.
    """

    __slots__ = ("_booked", "_flusher", "_waiting")

    def __init__(self, flusher: Flusher) -> None:
        self._flusher = flusher
        self._booked = False
        self._waiting: OrderedDict[tuple[Channel, Recipient], Position | None] = OrderedDict()

    def __len__(self) -> int:
        """Count those who wait."""
        return len(self._waiting)

    def add(self, channel: Channel, recipients: Iterable[Recipient], position: Position | None) -> None:
        """Have them told in later turns that publications after `position` are missing; it must not change any more."""
        for recipient in recipients:
            self._waiting[channel, recipient] = position
        if self._waiting:
            self._book()

    def forget(self, channel: Channel, recipient: Recipient) -> None:
        """Tell it nothing: it has left the channel."""
        if self._waiting:
            self._waiting.pop((channel, recipient), None)

    def run(self) -> None:
        """Tell some, and the others in the next turn; also when one of them raises."""
        self._booked = False
        stop = self._flusher.now() + TURN_SECONDS
        try:
            for _ in range(min(len(self._waiting), TURN_RECIPIENTS)):
                if not self._waiting:
                    return  # what one does may end others
                (channel, recipient), position = self._waiting.popitem(last=False)
                recipient.insufficient(channel, position and Position(position.offset, position.epoch))
                if self._flusher.now() > stop:
                    return
        finally:
            if self._waiting:
                self._book()

    def _book(self) -> None:
        if not self._booked:
            self._booked = True
            self._flusher.call_soon(self.run)
