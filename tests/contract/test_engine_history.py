"""Every engine's history keeps `contracts.broker.History`."""

from __future__ import annotations

import pytest

from gateway.contracts.broker import History
from gateway.protocol.values import HistoryPage, HistoryQuery, Published, PublishOptions
from gateway.types import Channel, Position, Publication
from tests.support.changed import changed
from tests.support.clock import ManualClock
from tests.support.engines import Node, client, eventually, good

ROOM = Channel("chat:lobby")
KEPT = PublishOptions(history_size=10, history_ttl=60.0, history_meta_ttl=600.0)


@pytest.fixture(name="history")
def _history(node: Node) -> History:
    assert node.engine.history is not None
    return node.engine.history


async def fill(node: Node, count: int, options: PublishOptions = KEPT) -> Position:
    """Publish so many; return the last position."""
    last = Published()
    for n in range(1, count + 1):
        last = await good(node.engine.broker.publish, ROOM, b"%d" % n, options)
    assert last.position is not None
    return last.position


async def offsets(history: History, query: HistoryQuery) -> list[int]:
    """Read and return only the offsets."""
    page: HistoryPage = await good(history.read, ROOM, query)
    return [publication.offset for publication in page.publications]


async def test_an_unknown_channel_has_an_identity(history: History) -> None:
    """Reading begins the stream: offset 0 and an epoch that stays."""
    page = await good(history.read, ROOM, HistoryQuery(-1))
    assert (0, []) == (page.top.offset, list(page.publications))
    assert page.top.epoch
    assert page.top == (await good(history.read, ROOM, HistoryQuery())).top


async def test_publications_count_from_one_in_one_epoch(node: Node, history: History) -> None:
    """Offsets are 1, 2, 3 in the epoch that a reader saw before."""
    epoch = (await good(history.read, ROOM, HistoryQuery())).top.epoch
    positions = [(await good(node.engine.broker.publish, ROOM, b"x", KEPT)).position for _ in range(3)]
    assert [Position(1, epoch), Position(2, epoch), Position(3, epoch)] == positions


async def test_what_is_kept_is_what_was_delivered(node: Node, history: History) -> None:
    """A publication read from history equals the one that arrived live, position included."""
    await good(node.engine.broker.subscribe, ROOM)
    options = changed(KEPT, info=client(info=b"{}"), tags={"a": "b"}, time_ms=5)
    published = await good(node.engine.broker.publish, ROOM, b'{"x":1}', options)
    await node.sink.until(lambda: node.sink.of("published"))
    (kept,) = (await good(history.read, ROOM, HistoryQuery(-1))).publications
    assert isinstance(kept, Publication)
    assert [(ROOM, kept)] == node.sink.of("published")
    assert published.position == Position(kept.offset, kept.epoch)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (HistoryQuery(-1), [1, 2, 3, 4, 5]),
        (HistoryQuery(0), []),
        (HistoryQuery(2), [1, 2]),
        (HistoryQuery(99), [1, 2, 3, 4, 5]),
        (HistoryQuery(-1, Position(3, "")), [4, 5]),
        (HistoryQuery(1, Position(3, "")), [4]),
        (HistoryQuery(-1, Position(0, "")), [1, 2, 3, 4, 5]),
        (HistoryQuery(-1, Position(5, "")), []),
        (HistoryQuery(-1, Position(99, "")), []),
        (HistoryQuery(-1, Position(2**64, "")), []),
        (HistoryQuery(-1, reverse=True), [5, 4, 3, 2, 1]),
        (HistoryQuery(2, reverse=True), [5, 4]),
        (HistoryQuery(-1, Position(3, ""), reverse=True), [2, 1]),
        (HistoryQuery(1, Position(3, ""), reverse=True), [2]),
        (HistoryQuery(-1, Position(1, ""), reverse=True), []),
        (HistoryQuery(-1, Position(0, ""), reverse=True), []),
        (HistoryQuery(0, Position(3, ""), reverse=True), []),
        (HistoryQuery(2, Position(2**64, ""), reverse=True), [5, 4]),
    ],
)
async def test_paging(node: Node, history: History, query: HistoryQuery, expected: list[int]) -> None:
    """Forward after `since` or from the oldest, reverse before it or from the newest; the top always comes along."""
    top = await fill(node, 5)
    assert expected == await offsets(history, query)
    assert top == (await good(history.read, ROOM, query)).top


async def test_the_window_is_exact(node: Node, history: History) -> None:
    """No more than `history_size` are kept, and the newest ones; the offsets go on."""
    top = await fill(node, 7, changed(KEPT, history_size=3))
    assert [5, 6, 7] == await offsets(history, HistoryQuery(-1))
    assert 7 == top.offset


async def test_a_window_that_shrinks_trims(node: Node, history: History) -> None:
    """The size named by the last publication counts."""
    await fill(node, 5)
    await fill(node, 1, changed(KEPT, history_size=2))
    assert [5, 6] == await offsets(history, HistoryQuery(-1))


async def test_removal_keeps_the_identity(node: Node, history: History) -> None:
    """After a removal nothing is kept, epoch and offset go on; removing nothing succeeds."""
    top = await fill(node, 3)
    assert await good(history.remove, ROOM) is None
    assert HistoryPage([], top) == _listed(await good(history.read, ROOM, HistoryQuery(-1)))
    assert Position(4, top.epoch) == await fill(node, 1)
    assert await good(history.remove, Channel("never:seen")) is None


async def test_publications_expire_before_their_identity(node: Node, history: History, clock: ManualClock) -> None:
    """After `history_ttl` the publications are gone, the position stands."""
    top = await fill(node, 2, changed(KEPT, history_ttl=0.05))
    clock.advance(0.1)

    async def gone() -> bool:
        return not await offsets(history, HistoryQuery(-1))

    await eventually(gone)
    assert top == (await good(history.read, ROOM, HistoryQuery(-1))).top


async def test_a_lost_identity_is_not_taken_up_again(node: Node, history: History, clock: ManualClock) -> None:
    """When the identity has expired too, the channel begins anew: another epoch, offset 1, nothing of the old."""
    old = await fill(node, 3, changed(KEPT, history_meta_ttl=0.05))
    clock.advance(0.1)

    async def anew() -> bool:
        page = await good(history.read, ROOM, HistoryQuery(-1))
        return bool(page.top.epoch != old.epoch)

    await eventually(anew)
    page = await good(history.read, ROOM, HistoryQuery(-1))
    assert (0, []) == (page.top.offset, list(page.publications))
    assert Position(1, page.top.epoch) == await fill(node, 1)
    assert [1] == await offsets(history, HistoryQuery(-1))


async def test_reading_keeps_the_identity_alive(node: Node, history: History, clock: ManualClock) -> None:
    """A read that names a `meta_ttl` sets how long epoch and offset live from then on."""
    options, unread = changed(KEPT, history_meta_ttl=0.5), Channel("unread")
    top = await fill(node, 1, options)
    assert top == (await good(history.read, ROOM, HistoryQuery(meta_ttl=600.0))).top
    other = (await good(node.engine.broker.publish, unread, b"{}", options)).position
    clock.advance(1.0)

    async def other_is_lost() -> bool:
        return bool(other != (await good(history.read, unread, HistoryQuery())).top)

    await eventually(other_is_lost)
    assert top == (await good(history.read, ROOM, HistoryQuery())).top


def _listed(page: HistoryPage) -> HistoryPage:
    return HistoryPage(list(page.publications), page.top)
