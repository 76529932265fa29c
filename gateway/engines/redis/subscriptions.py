"""Who on this node wants which pub/sub channel: one synchronous table, no locks, because the link is FIFO."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from gateway.contracts.broker import Done
from gateway.engines.redis.link import Link
from gateway.errors import EngineFault
from gateway.types import Channel

BATCH: Final = 512  # channels in one SUBSCRIBE: a bigger one would hold Redis up
IDLE: Final = 1.0  # seconds without references before a channel is unsubscribed


class Listener(Protocol):
    """Who gets what arrives."""

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
    waiters: list[tuple[float, Done[None]]] = field(default_factory=list)  # (deadline, done)


class Subscriptions:
    """The table `name -> Entry` of one pub/sub link, whose callbacks it takes over. `clock`: monotonic seconds.

    First reference: SUBSCRIBE, state asked; acknowledged: on, waiters are called. Link lost: all are asked again when
    it is back; waiters stay until their deadline. No references: unsubscribed by a later sweep.
    """

    def __init__(self, link: Link, *, clock: Callable[[], float], timeout: float) -> None:
        self._link = link
        self._clock = clock
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._table: dict[bytes, Entry] = {}
        self._asking: list[bytes] = []  # to be asked at the end of this turn
        self._waiting: dict[bytes, Entry] = {}  # those with waiters
        self._idle: dict[bytes, float] = {}  # since when; oldest first
        self._rejoined: list[Entry] = []  # acknowledged after a loss, their listeners not told yet
        self._why = ""
        link.pushed = self.pushed
        link.came_up = self._came_up
        link.went_down = self._went_down

    def subscribe(self, name: str, channel: Channel, listener: Listener, done: Done[None]) -> None:
        """Take a reference; as `Broker.subscribe`."""
        if not self._link.up:
            self._loop.call_soon(done, EngineFault("down", self._link.fault))
            return
        key = name.encode()
        entry = self._enter(key, channel, listener)
        if entry.state == "on":
            self._loop.call_soon(done, None)
            return
        entry.waiters.append((self._clock() + self._timeout, done))
        self._waiting[key] = entry

    def keep(self, name: str, channel: Channel, listener: Listener) -> None:
        """Hold a reference for good, link or no link; each time it stands the listener hears `suspect`."""
        self._enter(name.encode(), channel, listener).stood = True

    def unsubscribe(self, name: str) -> None:
        """Drop a reference."""
        key = name.encode()
        entry = self._table.get(key)
        if entry is not None and entry.refs:
            self._release(key, entry)

    def wanted(self, name: str) -> bool:
        """Whether this node is subscribed and somebody here listens."""
        entry = self._table.get(name.encode())
        return entry is not None and entry.state == "on" and entry.refs > 0

    def pushed(self, push: list[Any]) -> None:
        """Take a push of the link. The hot path: once per message."""
        kind, key, payload = push
        if kind == b"message":
            entry = self._table.get(key)
            if entry is not None:
                if self._rejoined:
                    self._tell_suspects()
                entry.listener.arrived(entry.channel, payload)
        elif kind == b"subscribe":
            self._acknowledged(key)

    def sweep(self, now: float) -> None:
        """Fail waiters over their deadline, unsubscribe what has been idle long enough."""
        for key, entry in list(self._waiting.items()):
            late = [done for deadline, done in entry.waiters if deadline <= now]
            entry.waiters = [waiter for waiter in entry.waiters if waiter[0] > now]
            if not entry.waiters:
                del self._waiting[key]
            for done in late:
                self._release(key, entry)
                done(EngineFault("timeout", f"not subscribed within {self._timeout:g} s"))
        self._drop_idle(now)

    def close(self) -> None:
        """Fail everybody who still waits."""
        waiting, self._waiting = self._waiting, {}
        for entry in waiting.values():
            waiters, entry.waiters = entry.waiters, []
            for _, done in waiters:
                done(EngineFault("down", "closing"))

    # --- inside

    def _enter(self, key: bytes, channel: Channel, listener: Listener) -> Entry:
        entry = self._table.get(key)
        if entry is None:
            entry = self._table[key] = Entry(channel, listener)
            if not self._asking:
                self._loop.call_soon(self._ask)
            self._asking.append(key)
        else:
            self._idle.pop(key, None)
        entry.refs += 1
        return entry

    def _release(self, key: bytes, entry: Entry) -> None:
        entry.refs -= 1
        if entry.refs == 0:
            self._idle[key] = self._clock()

    def _drop_idle(self, now: float) -> None:
        gone: list[bytes] = []
        for key, since in self._idle.items():
            if now - since < IDLE:
                break
            # An entry that is still asked waits: its acknowledgement could be taken for that of the next SUBSCRIBE.
            if self._table[key].state == "on":
                gone.append(key)
        for key in gone:
            del self._idle[key], self._table[key]
        self._tell("UNSUBSCRIBE", gone)

    def _ask(self) -> None:
        asking, self._asking = self._asking, []
        self._tell("SUBSCRIBE", asking)

    def _tell(self, verb: str, keys: list[bytes]) -> None:
        for start in range(0, len(keys), BATCH):
            self._link.tell((verb, *keys[start : start + BATCH]))

    def _acknowledged(self, key: bytes) -> None:
        entry = self._table.get(key)
        if entry is None or entry.state == "on":
            return
        entry.state = "on"
        if entry.stood:
            if not self._rejoined:
                self._loop.call_soon(self._tell_suspects)
            self._rejoined.append(entry)
            entry.stood = False
        waiters, entry.waiters = entry.waiters, []
        self._waiting.pop(key, None)
        for _, done in waiters:
            done(None)

    def _tell_suspects(self) -> None:
        """Tell each listener once, however many of its channels stand again."""
        rejoined, self._rejoined = self._rejoined, []
        channels: dict[int, list[Channel]] = {}
        listeners = {id(entry.listener): entry.listener for entry in rejoined}
        for entry in rejoined:
            channels.setdefault(id(entry.listener), []).append(entry.channel)
        for identity, listener in listeners.items():
            listener.suspect(channels[identity], self._why)

    def _came_up(self) -> None:
        self._asking = []
        self._tell("SUBSCRIBE", list(self._table))

    def _went_down(self, why: str) -> None:
        self._why = why
        for key in self._idle:
            del self._table[key]
        self._idle.clear()
        self._asking = []
        for entry in self._table.values():
            entry.stood = entry.stood or entry.state == "on"
            entry.state = "asked"
