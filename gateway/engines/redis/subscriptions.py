"""Who on this node wants which pub/sub channel: one synchronous table, no locks, because the link is FIFO."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import Any, Final

from gateway.contracts.broker import Done
from gateway.engines.redis.entries import Asked, Entry, Listener
from gateway.engines.redis.link import Link
from gateway.engines.redis.topology import tag_of
from gateway.errors import EngineFault
from gateway.types import Channel

BATCH: Final = 512  # channels asked for and not acknowledged yet: more at once would hold Redis up
IDLE: Final = 1.0  # seconds without references before a channel is unsubscribed


class Subscriptions:
    """The table `name -> Entry` of one pub/sub link, whose callbacks it takes over. `clock`: monotonic seconds.

    First reference: SUBSCRIBE, state asked; acknowledged: on, waiters are called. Link lost: all are asked again when
    it is back, a batch at a time; waiters stay until their deadline. No references: unsubscribed by a later sweep.

    Sharded, a slot may leave the server, which then refuses to subscribe or unsubscribes by itself: `strayed` is
    called, and what is astray waits until its partition is given to another table or until `ask_again`.

    A server that is busy, with a script say, refuses both commands: they are sent again with a later sweep.
    """

    def __init__(self, link: Link, *, clock: Callable[[], float], timeout: float, sharded: bool = False) -> None:
        self.strayed: Callable[[], None] = lambda: None
        self._sharded = sharded
        self._verbs = ("SSUBSCRIBE", "SUNSUBSCRIBE") if sharded else ("SUBSCRIBE", "UNSUBSCRIBE")
        self._kinds = (b"smessage", b"ssubscribe") if sharded else (b"message", b"subscribe")
        self._taken = b"sunsubscribe" if sharded else b"unsubscribe"
        self._link = link
        self._clock = clock
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._table: dict[bytes, Entry] = {}
        self._asking: deque[bytes] = deque()  # to be asked at the end of this turn, or when there is room
        self._booked = False  # the end of this turn will see to it
        self._asked = Asked()
        self._astray: list[bytes] = []  # the server would not have them
        self._put_off = False  # the server was too busy to be asked: no more questions until the next sweep
        self._left_over: list[bytes] = []  # it was too busy to unsubscribe them
        self._waiting: dict[bytes, Entry] = {}  # those with waiters
        self._idle: dict[bytes, float] = {}  # since when; oldest first
        self._rejoined: list[Entry] = []  # acknowledged after a loss, their listeners not told yet
        self._why = ""
        link.pushed = self.pushed
        link.came_up = self._came_up
        link.went_down = self._went_down
        link.untold = self._untold

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
        entry = self._enter(name.encode(), channel, listener, kept=True)
        entry.stood = entry.kept = True

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
        kind: bytes
        key: bytes
        kind, key, payload = push
        message, subscribed = self._kinds
        if kind == message:
            entry = self._table.get(key)
            if entry is not None:
                if self._rejoined:
                    self._tell_suspects()
                entry.listener.arrived(entry.channel, payload)
        elif kind == subscribed:
            self._acknowledged(key)
        elif kind == self._taken:
            self._unsubscribed(key)

    def give(self, beginnings: tuple[bytes, ...]) -> Mapping[bytes, Entry]:
        """Hand over all names that begin so, but what is idle."""
        leaving = [key for key in self._table if key.startswith(beginnings)]
        given: dict[bytes, Entry] = {}
        for key in leaving:
            entry = self._table.pop(key)
            self._waiting.pop(key, None)
            if self._idle.pop(key, None) is None:
                given[key] = entry
        self._asking = deque(key for key in self._asking if key in self._table)
        self._astray = [key for key in self._astray if key in self._table]
        return given

    def take(self, given: Mapping[bytes, Entry], why: str) -> None:
        """Take over what another table gave; what stood there is suspect when it stands here."""
        for key, it in given.items():
            # Another object: an acknowledgement still to come from when it was here before is none for this one.
            entry = Entry(it.channel, it.listener, it.refs, "asked", it.stood or it.state == "on", it.kept, it.waiters)
            self._table[key] = entry
            if entry.waiters:
                self._waiting[key] = entry
        self._why = why
        self._ask_for(sorted(given))

    def ask_again(self) -> None:
        """Ask for what was astray and is still here."""
        astray, self._astray = sorted(set(self._astray)), []
        for key in astray:
            if key in self._idle:
                del self._idle[key], self._table[key]
        self._ask_for(key for key in astray if key in self._table)

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
        self._put_off = False
        self._ask_for(())
        self._drop_idle(now)

    def close(self) -> None:
        """Fail everybody who still waits."""
        waiting, self._waiting = self._waiting, {}
        for entry in waiting.values():
            waiters, entry.waiters = entry.waiters, []
            for _, done in waiters:
                done(EngineFault("down", "closing"))

    # --- inside

    def _enter(self, key: bytes, channel: Channel, listener: Listener, *, kept: bool = False) -> Entry:
        entry = self._table.get(key)
        if entry is None:
            entry = self._table[key] = Entry(channel, listener, kept=kept)
            self._ask_for((key,))
        else:
            self._idle.pop(key, None)
        entry.refs += 1
        return entry

    def _release(self, key: bytes, entry: Entry) -> None:
        entry.refs -= 1
        if entry.refs == 0:
            self._idle[key] = self._clock()

    def _drop_idle(self, now: float) -> None:
        gone = [key for key in self._left_over if key not in self._table]
        self._left_over.clear()
        for key, since in self._idle.items():
            if now - since < IDLE:
                break
            # An entry that is still asked waits: its acknowledgement could be taken for that of the next SUBSCRIBE.
            if self._table[key].state == "on":
                gone.append(key)
                del self._table[key]
        for key in gone:
            self._idle.pop(key, None)
        self._unsubscribe(gone)

    def _unsubscribe(self, keys: list[bytes]) -> None:
        for batch in self._batches(keys):
            self._asked.add((key, None) for key in batch)
            self._link.tell((self._verbs[1], *batch))

    def _ask_for(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            if self._table[key].kept:
                self._asking.appendleft(key)
            else:
                self._asking.append(key)
        if self._asking and not self._booked:
            self._booked = True
            self._loop.call_soon(self._ask)

    def _ask(self) -> None:
        """Ask for as many as there is room for; the rest when these are acknowledged."""
        self._booked = False
        if self._put_off or not self._link.up:
            return
        room = min(BATCH - self._asked.subscribing, len(self._asking))
        for batch in self._batches([self._asking.popleft() for _ in range(room)]):
            self._asked.add((key, self._table[key]) for key in batch)
            self._link.tell((self._verbs[0], *batch))

    def _batches(self, keys: list[bytes]) -> Iterable[list[bytes]]:
        """Cut into what one command may hold; sharded, that is one slot only."""
        for start in range(0, len(keys), BATCH):
            part = keys[start : start + BATCH]
            if self._sharded:
                yield from (list(batch) for _, batch in groupby(sorted(part), tag_of))
            else:
                yield part

    def _acknowledged(self, key: bytes) -> None:
        entry = self._asked.answered(key, subscribed=True)
        self._ask_for(())
        if entry is None or self._table.get(key) is not entry:
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

    def _unsubscribed(self, key: bytes) -> None:
        """Take that the server unsubscribed a channel; without our asking if we still want it and it stood."""
        self._asked.answered(key, subscribed=False)
        entry = self._table.get(key)
        if self._sharded and entry is not None and entry.state == "on":
            entry.state, entry.stood = "asked", True
            self._astray.append(key)
            self._why = "the slot has moved"
            self.strayed()

    def _untold(self, fault: EngineFault) -> bool:
        """Take that the server refused the oldest command: the slot is not its own any more, or it is busy."""
        if fault.kind != "busy" and not (self._sharded and fault.kind == "moved"):
            return False
        refused = self._asked.refused()
        wanted = [key for key, entry in refused if entry is not None and self._table.get(key) is entry]
        if fault.kind == "busy":
            self._put_off = True
            self._asking.extendleft(reversed(wanted))
            self._left_over += [key for key, entry in refused if entry is None]
        else:
            self._astray += wanted
            self.strayed()
        return True

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
        self._forget_idle()  # who left meanwhile
        self._asking.clear()
        self._ask_for(sorted(self._table) if self._sharded else self._table)
        self._ask()

    def _went_down(self, why: str) -> None:
        self._why = why
        self._forget_idle()
        self._asking.clear()
        self._asked.clear()
        self._astray.clear()
        self._left_over.clear()
        self._put_off = False
        for entry in self._table.values():
            entry.stood = entry.stood or entry.state == "on"
            entry.state = "asked"

    def _forget_idle(self) -> None:
        """Drop what nobody wants any more; a link that is down or new has nothing to be unsubscribed."""
        for key in self._idle:
            del self._table[key]
        self._idle.clear()
