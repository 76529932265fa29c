from __future__ import annotations

from collections.abc import Sequence

import pytest

from gateway.protocol.recovery import merge
from gateway.protocol.values import HistoryPage
from gateway.types import Position, Publication
from tests.unit.protocol.talk import publication

EPOCH = "abcdefgh"


def _page(offsets: Sequence[int], top: int, epoch: str = EPOCH) -> HistoryPage:
    return HistoryPage([publication(it, epoch) for it in offsets], Position(top, epoch))


def _offsets(publications: Sequence[Publication]) -> list[int]:
    return [it.offset for it in publications]


CASES = [
    # page, top, buffered, since, epoch of since, publications, position, recovered, hole
    pytest.param([], 5, [], 5, EPOCH, [], 5, True, False, id="nothing missed"),
    pytest.param([4, 5], 5, [], 3, EPOCH, [4, 5], 5, True, False, id="missed two"),
    pytest.param([4, 5], 5, [6, 7], 3, EPOCH, [4, 5, 6, 7], 7, True, False, id="and two came meanwhile"),
    pytest.param([4, 5], 5, [7, 5, 6, 6], 3, EPOCH, [4, 5, 6, 7], 7, True, False, id="in any order, repeated"),
    pytest.param([], 5, [6], 5, EPOCH, [6], 6, True, False, id="only live ones"),
    pytest.param([], 5, [4, 5], 3, EPOCH, [4, 5], 5, True, False, id="the buffer holds what the page lacks"),
    pytest.param([5], 5, [], 3, EPOCH, [], 5, False, False, id="trimmed"),
    pytest.param([4, 5], 9, [], 3, EPOCH, [], 9, False, False, id="more than the limit"),
    pytest.param([], 5, [], 6, EPOCH, [], 5, False, False, id="ahead of the top"),
    pytest.param([4, 5], 5, [], 3, "otherone", [], 5, False, False, id="another epoch"),
    pytest.param([4, 5], 5, [], 3, "", [4, 5], 5, True, False, id="no epoch"),
    pytest.param([1, 2], 2, [], 0, "", [1, 2], 2, True, False, id="from the beginning"),
    pytest.param([2, 3], 3, [], 0, "", [], 3, False, False, id="the beginning is gone"),
    pytest.param([], 0, [], 0, "", [], 0, True, False, id="nothing yet"),
    pytest.param([], 0, [], 0, "_", [], 0, False, False, id="state invalidated"),
    pytest.param([4, 5], 5, [7], 3, EPOCH, [], 5, False, True, id="a hole before the buffer"),
    pytest.param([4, 5], 5, [6, 8], 3, EPOCH, [], 6, False, True, id="a hole in the buffer"),
]


@pytest.mark.parametrize(
    ("page", "top", "buffered", "since", "epoch", "publications", "position", "recovered", "hole"), CASES
)
def test_recovering(  # noqa: PLR0917 - the columns of the table
    page: list[int],
    top: int,
    buffered: list[int],
    since: int,
    epoch: str,
    publications: list[int],
    position: int,
    recovered: bool,
    hole: bool,
) -> None:
    """Exactly what was missed, or not recovered and nothing; the position is the furthest without a hole."""
    merged = merge(_page(page, top), [publication(it) for it in buffered], Position(since, epoch))
    assert publications == _offsets(merged.publications)
    assert Position(position, EPOCH) == merged.position
    assert (recovered, hole) == (merged.recovered, merged.hole)


def test_the_epoch_that_means_invalidated_never_recovers() -> None:
    """An SDK that lost its state sends the epoch `_`; not even a stream of that name recovers it."""
    assert not merge(_page([], 0, "_"), [], Position(0, "_")).recovered


@pytest.mark.parametrize(
    ("page", "top", "buffered", "publications", "position", "hole"),
    [
        pytest.param([], 5, [], [], 5, False, id="from here on"),
        pytest.param([], 5, [5, 6, 4], [6], 6, False, id="only what is beyond the top"),
        pytest.param([5, 4, 3], 5, [4, 5, 6], [3, 4, 5, 6], 6, False, id="the newest three and what came"),
        pytest.param([5], 5, [7], [5], 5, True, id="a hole"),
    ],
)
def test_not_recovering(  # noqa: PLR0917 - the columns of the table
    page: list[int], top: int, buffered: list[int], publications: list[int], position: int, hole: bool
) -> None:
    """A new subscription begins with the newest few, oldest first, and goes on without a hole."""
    merged = merge(_page(page, top), [publication(it) for it in buffered], None)
    assert publications == _offsets(merged.publications)
    assert Position(position, EPOCH) == merged.position
    assert (False, hole) == (merged.recovered, merged.hole)


def test_publications_without_offset_are_none_of_our_business() -> None:
    """They belong to no stream and are ignored."""
    merged = merge(_page([], 5), [Publication(b"{}")], Position(5, EPOCH))
    assert (merged.recovered, merged.hole, merged.publications) == (True, False, [])


@pytest.mark.parametrize("since", [None, Position(5, EPOCH)])
def test_another_epoch_in_the_buffer_is_a_hole(since: Position | None) -> None:
    """Which epoch is the newer one, only another page can tell."""
    merged = merge(_page([], 5), [publication(1, "otherone")], since)
    assert (merged.hole, merged.recovered, merged.publications) == (True, False, [])
    assert Position(5, EPOCH) == merged.position
