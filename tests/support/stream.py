"""A history that a test serves by hand: reads wait to be carried out, and their answers to arrive."""

from __future__ import annotations

from collections import deque

from gateway.contracts.broker import Done
from gateway.errors import EngineFault
from gateway.protocol.values import HistoryPage, HistoryQuery
from gateway.types import Channel, Position, Publication


class Stream:
    """What the broker keeps; reads are carried out and answered when the test says so."""

    def __init__(self, epoch: str = "e0") -> None:
        self.top = Position(0, epoch)
        self.kept: list[Publication] = []
        self.failing = ""  # the kind of fault that reads end in
        self.asked: deque[tuple[HistoryQuery, Done[HistoryPage]]] = deque()
        self.answers: deque[tuple[HistoryPage | EngineFault, Done[HistoryPage]]] = deque()

    def append(self, size: int = 0) -> Publication:
        """Keep one more."""
        self.top = Position(self.top.offset + 1, self.top.epoch)
        data = b":" + self.top.epoch.encode() + b"." * size
        self.kept.append(Publication(data, self.top.offset, self.top.epoch))
        return self.kept[-1]

    def read(self, channel: Channel, query: HistoryQuery, done: Done[HistoryPage]) -> None:
        """See `contracts.broker.History`."""
        del channel
        self.asked.append((query, done))

    def remove(self, channel: Channel, done: Done[None]) -> None:
        """Nobody asks."""
        raise AssertionError((channel, done))

    def serve(self, count: int) -> None:
        """Carry out some reads."""
        for _ in range(min(count, len(self.asked))):
            query, done = self.asked.popleft()
            self.answers.append((EngineFault(self.failing) if self.failing else self._page(query), done))

    def answer(self, count: int) -> None:
        """Let some answers arrive."""
        for _ in range(min(count, len(self.answers))):
            page, done = self.answers.popleft()
            done(page)

    def _page(self, query: HistoryQuery) -> HistoryPage:
        after = query.since.offset if query.since is not None else 0
        found = [it for it in self.kept if it.offset > after]
        return HistoryPage(
            found if query.limit < 0 else found[: query.limit], Position(self.top.offset, self.top.epoch)
        )
