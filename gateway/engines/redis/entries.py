"""What the table of subscriptions is made of: entries, listeners, and questions that the server has not answered."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from gateway.contracts.broker import Done
from gateway.types import Channel


class Listener(Protocol):
    """Who gets what arrives."""

    __slots__ = ()

    def arrived(self, channel: Channel, payload: bytes) -> None:
        """One message."""

    def suspect(self, channels: Iterable[Channel], why: str) -> None:
        """These stand again after a loss; messages may be missing. Comes before any later message."""


@dataclass(slots=True)
class Entry:
    """One channel; without an entry a channel is off."""

    channel: Channel
    listener: Listener
    refs: int = 0
    state: Literal["asked", "on"] = "asked"
    stood: bool = False  # it was on before the link was lost
    kept: bool = False  # the gateway's own: asked for ahead of all others, which may take seconds
    waiters: list[tuple[float, Done[None]]] = field(default_factory=list)  # (deadline, done)


Question = tuple[bytes, Entry | None]
"""A name, and its entry if it is to be subscribed."""


class Asked:
    """Questions in the order of their commands, which is that of the answers: one for each name, or one error for all.

    The same name may be asked for again before its first answer is in. An answer that is not due is none of ours:
    servers unsubscribe without being asked, too.
    """

    def __init__(self) -> None:
        self.subscribing = 0
        self._commands: deque[deque[Question]] = deque()

    def add(self, questions: Iterable[Question]) -> None:
        """Note one command."""
        command = deque(questions)
        self._commands.append(command)
        self.subscribing += sum(entry is not None for _, entry in command)

    def answered(self, name: bytes, *, subscribed: bool) -> Entry | None:
        """Take an answer; return the entry that it is about."""
        if not self._commands:
            return None
        due, entry = self._commands[0][0]
        if due != name or (entry is not None) != subscribed:
            return None
        self._commands[0].popleft()
        if not self._commands[0]:
            self._commands.popleft()
        self.subscribing -= subscribed
        return entry

    def refused(self) -> Sequence[Question]:
        """Take an error; return what its command was about."""
        command = self._commands.popleft() if self._commands else deque[Question]()
        self.subscribing -= sum(entry is not None for _, entry in command)
        return command

    def clear(self) -> None:
        """Expect nothing any more."""
        self._commands.clear()
        self.subscribing = 0
