"""Commands that must wait: for the connect reply, for slow work in their channel, or for the next turn of the loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from gateway.errors import DecodeError
from gateway.protocol.messages import Command, Pong
from gateway.types import Channel

Heard: TypeAlias = Command | DecodeError  # what a client has asked for, readable or not
AT_ONCE: Final = 64  # of these in one turn; one frame may hold 20,000, and one read many frames


@dataclass(slots=True)
class _Busy:
    works: int = 0
    queue: deque[Command] = field(default_factory=deque)


class Waiting:
    """One connection's queues: commands for one channel keep their order, channels do not wait for each other."""

    __slots__ = ("_busy", "_connect", "_put_off", "_taken", "count")

    def __init__(self) -> None:
        self.count = 0
        self._taken = 0  # since others last had a turn
        self._put_off: Sequence[Heard] | None = None
        self._connect: deque[Command] | None = None
        self._busy: dict[Channel, _Busy] | None = None

    @property
    def for_connect(self) -> bool:
        """Whether everything waits for the connect reply."""
        return self._connect is not None

    @property
    def busy(self) -> bool:
        """Whether slow work is under way, or the connect reply is, or something waits for its turn."""
        return self._connect is not None or self._busy is not None or self._put_off is not None

    @property
    def behind(self) -> bool:
        """Whether something waits for `next_slice`."""
        return self._put_off is not None

    def slice(self, heard: Sequence[Heard]) -> Sequence[Heard]:
        """Return what this turn has room for. The rest waits, behind what was put off and is handed in again."""
        if self._put_off is not None:
            self._put_off = [*heard, *self._put_off]
            return ()
        self._taken += len(heard)
        if self._taken <= AT_ONCE:
            return heard
        heard = list(heard)
        self._put_off = heard[AT_ONCE:]
        return heard[:AT_ONCE]

    def next_slice(self) -> Sequence[Heard]:
        """Begin another turn: return all that waited for it, to be sliced anew."""
        put_off, self._put_off, self._taken = self._put_off, None, 0
        return put_off or ()

    def take(self, command: Command) -> bool:
        """Queue a command if it must wait; a pong never does."""
        queue = self._queue(command)
        if queue is None or type(command) is Pong:
            return False
        queue.append(command)
        self.count += 1
        return True

    def hold_all(self) -> None:
        """Let everything wait."""
        if self._connect is None:
            self._connect = deque()

    def free_all(self) -> deque[Command]:
        """Return what waited for the connect reply, in order."""
        queue, self._connect = self._connect or deque(), None
        self.count -= len(queue)
        return queue

    def hold(self, channel: Channel) -> None:
        """Let a channel's commands wait, once more."""
        if self._busy is None:
            self._busy = {}
        self._busy.setdefault(channel, _Busy()).works += 1

    def free(self, channel: Channel) -> deque[Command]:
        """End one of the channel's works; return what waited if it was the last one."""
        busy = self._busy.get(channel) if self._busy else None
        if self._busy is None or busy is None:
            return deque()
        busy.works -= 1
        if busy.works:
            return deque()
        del self._busy[channel]
        self._busy = self._busy or None
        self.count -= len(busy.queue)
        return busy.queue

    def clear(self) -> None:
        """Forget everything: the connection has gone."""
        self._connect = self._busy = self._put_off = None
        self.count = 0

    def _queue(self, command: Command) -> deque[Command] | None:
        if self._connect is not None:
            return self._connect
        if self._busy is None:
            return None
        busy = self._busy.get(getattr(command, "channel", Channel("")))
        return None if busy is None else busy.queue
