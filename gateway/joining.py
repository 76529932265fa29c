"""The subscribe algorithm, step by step: nothing is lost, doubled or out of order between history and live."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from gateway.answers import answer
from gateway.contracts.broker import Broker, Done, History
from gateway.contracts.engine import Engine
from gateway.contracts.transport import Transport
from gateway.departures import Departures
from gateway.disconnects import SERVER_ERROR, Disconnect
from gateway.errors import EngineFault
from gateway.hub import Hub, Interest
from gateway.outbox import Flusher
from gateway.protocol.effects import Join, Joined
from gateway.protocol.messages import PublicationPush
from gateway.protocol.recovery import merge
from gateway.protocol.values import HistoryPage, HistoryQuery
from gateway.recipients import Group, Held, Recipient
from gateway.relay import Relay
from gateway.types import Channel, ClientInfo, ConnectionId, Position, Publication


@dataclass(eq=False, slots=True)
class Seat:
    """What one subscription of a connection has taken, and so what must be given back."""

    held: Held | None  # until it is live
    joining: bool = True  # its join is under way and will itself notice that the connection has gone
    left: bool = False
    subscribed: bool = False
    presence: bool = False
    announce: bool = False
    who: ClientInfo | None = None  # as entered into presence
    returning: bool = False  # whoever leaves it may take another at once, which takes over its place in presence


class Joiner(Recipient):
    """A connection, as its joins see it."""

    __slots__ = ("gone", "id", "seats")

    def __init__(
        self, *, client: ConnectionId, group: Group, transport: Transport, flusher: Flusher, limit: int
    ) -> None:
        super().__init__(group=group, transport=transport, flusher=flusher, limit=limit)
        self.id = client
        self.gone = False
        self.seats: dict[Channel, Seat] = {}


@dataclass(slots=True)
class _Reads:
    """The callers whose read is not sent yet."""

    waiting: list[Done[HistoryPage]] = field(default_factory=list)


class SharedReads:
    """History reads shared by joins: per channel and query at most one in flight and one waiting.

    A caller never shares a read that was sent before it asked: that one could miss what the caller does not hold.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._reads: dict[tuple[object, ...], _Reads] = {}

    def read(self, channel: Channel, query: HistoryQuery, done: Done[HistoryPage]) -> None:
        """Read as `History.read`; the page may be shared and is not to be changed."""
        since = query.since
        key = (channel, query.limit, query.reverse, since and (since.offset, since.epoch))
        reads = self._reads.get(key)
        if reads is not None:
            reads.waiting.append(done)
            return
        reads = self._reads[key] = _Reads([done])
        self._send(key, reads, channel, query)

    def _send(self, key: tuple[object, ...], reads: _Reads, channel: Channel, query: HistoryQuery) -> None:
        sent, reads.waiting = reads.waiting, []

        def arrived(page: HistoryPage | EngineFault) -> None:
            for done in sent:
                done(page)
            if reads.waiting:
                self._send(key, reads, channel, query)
            else:
                del self._reads[key]

        self._history.read(channel, query, arrived)


@dataclass(slots=True)
class JoinTools:
    """What joins work with. `checkpoint` is awaited between the steps, for tests that put races there."""

    hub: Hub
    relay: Relay
    engine: Engine
    reads: SharedReads | None
    checkpoint: Callable[[str, Channel], Awaitable[None]] | None = None
    departures: Departures = field(default_factory=Departures)


async def join(
    want: Join, joiner: Joiner, tools: JoinTools, before: Seat | None = None
) -> Joined | EngineFault | Disconnect | None:
    """Subscribe a connection; None: it has gone meanwhile. Whatever fails or goes leaves nothing behind.

    Between the return and `Interest.release` the caller enqueues the reply, and awaits nothing before the reply's
    position is in the session. Cancelling gives everything back. `before`: a seat in this channel that was left with
    its place in presence, so that others see nobody leave or join.
    """
    held = Held(joiner, watch=want.watch, positioned=want.positioned)
    seat = joiner.seats[want.channel] = Seat(held)
    if before is not None:
        seat.presence, seat.announce, seat.who = before.presence, before.announce, before.who
    interest = tools.hub.enter(want.channel, held)
    try:
        joined = await _take(want, joiner, tools, seat, interest)
    except EngineFault as fault:
        # Nobody knows what the broker did: only a new connection is clean. All else is given back, or was a read.
        unknown = fault.kind == "timeout" and not seat.subscribed
        leave(want.channel, joiner, tools)
        return SERVER_ERROR if unknown else fault
    except BaseException:
        leave(want.channel, joiner, tools)
        raise
    seat.joining = False
    if joined is None:
        leave(want.channel, joiner, tools)
    return joined


def leave(channel: Channel, joiner: Joiner, tools: JoinTools) -> None:
    """Give back all that a subscription has taken: out of the hub now, broker and presence in the background."""
    seat = joiner.seats.pop(channel, None)
    if seat is None:
        return
    seat.left = True
    tools.hub.leave(channel, joiner)
    if seat.subscribed:
        tools.engine.broker.unsubscribe(channel)
    if not seat.returning:
        withdraw(channel, joiner, seat, tools)


def withdraw(channel: Channel, joiner: Joiner, seat: Seat, tools: JoinTools) -> None:
    """Give back a seat's place in presence, in the background."""
    if seat.presence and tools.engine.presence is not None:
        tools.engine.presence.remove(channel, joiner.id, seat.announce, tools.departures.expect())


async def _take(want: Join, joiner: Joiner, tools: JoinTools, seat: Seat, interest: Interest) -> Joined | None:
    await answer(_subscribe, tools.engine.broker, want.channel, seat)
    if await _gone_at("subscribed", want, joiner, tools):
        return None
    if want.presence and tools.engine.presence is not None:
        seat.presence, seat.announce, seat.who = (
            True,
            want.join_leave,
            want.who,
        )  # before the answer: a lost one may have happened
        await answer(tools.engine.presence.add, want.channel, want.who, want.join_leave)
        if await _gone_at("present", want, joiner, tools):
            return None
    joined = Joined(None, [], recovered=False)
    if want.history and tools.reads is not None:
        joined = await _catch_up(want, tools, seat)
    if joiner.gone:
        return None
    if want.history:
        interest.meta_ttl = want.history_meta_ttl
    if seat.held is not None and not interest.settle(seat.held, joined.position):
        tools.relay.doubt(interest)
    return joined


def _subscribe(broker: Broker, channel: Channel, seat: Seat, done: Done[None]) -> None:
    """Take a reference for a seat; one that comes after the seat was left (the join was cancelled) is given back."""

    def subscribed(outcome: EngineFault | None) -> None:
        seat.subscribed = outcome is None
        if seat.left and seat.subscribed:
            broker.unsubscribe(channel)
        done(outcome)

    broker.subscribe(channel, subscribed)


async def _catch_up(want: Join, tools: JoinTools, seat: Seat) -> Joined:
    """Read history until it joins what is held without a hole, twice at most."""
    joined = await _read(want, tools, seat, want.since)
    if joined.recovered or want.since is None or not want.recent:
        return joined
    newest = await _read(want, tools, seat, None)
    newest.recovered = False
    return newest


async def _read(want: Join, tools: JoinTools, seat: Seat, since: Position | None) -> Joined:
    query = HistoryQuery(
        limit=want.limit if since is not None else want.recent,
        since=since,
        reverse=since is None and want.recent > 0,
        meta_ttl=want.history_meta_ttl,
    )
    page = await _page(want, tools, seat, query)
    merged = merge(page, _publications(seat), since)
    if merged.hole or (seat.held is not None and seat.held.broken):
        page = await _page(want, tools, seat, query)
        merged = merge(page, _publications(seat), since)
    if merged.hole or (since is not None and not merged.recovered) or (since is None and not want.recent):
        # Held publications beyond the top follow the reply one by one; what does not follow is noticed there.
        return Joined(Position(page.top.offset, page.top.epoch), [], recovered=False)
    return Joined(merged.position, merged.publications, recovered=since is not None)


async def _page(want: Join, tools: JoinTools, seat: Seat, query: HistoryQuery) -> HistoryPage:
    assert tools.reads is not None  # noqa: S101 - for the type checker: `_take` looked
    if seat.held is not None:
        seat.held.broken = False  # what broke before this read is sent, the read brings back
    if tools.checkpoint is not None:
        await tools.checkpoint("reading", want.channel)
    page = await answer(tools.reads.read, want.channel, query)
    if tools.checkpoint is not None:
        await tools.checkpoint("read", want.channel)
    return page


def _publications(seat: Seat) -> list[Publication]:
    events = seat.held.events if seat.held is not None else []
    return [event.publication for event in events if isinstance(event, PublicationPush)]


async def _gone_at(name: str, want: Join, joiner: Joiner, tools: JoinTools) -> bool:
    if tools.checkpoint is not None:
        await tools.checkpoint(name, want.channel)
    return joiner.gone
