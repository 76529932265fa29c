from __future__ import annotations

from gateway.protocol.repair import EVENT_COST, HELD_LIMIT, Mending, Repair, Stage, mend
from gateway.protocol.values import HistoryPage
from gateway.types import Position, Publication

OLD, NEW = "aaaa", "bbbb"


def pubs(*offsets: int, epoch: str = OLD) -> list[Publication]:
    """Return publications."""
    return [Publication(b"", offset, epoch) for offset in offsets]


def page(*offsets: int, top: int, epoch: str = OLD) -> HistoryPage:
    """Return a page of history."""
    return HistoryPage(pubs(*offsets, epoch=epoch), Position(top, epoch))


def holding(*held: Publication, known: int = 0) -> Repair:
    """Return a repair that holds these; the first `known` of them came before the read was sent."""
    return Repair(0.0, stage=Stage.READING, held=list(held), known=known)


def summary(mending: Mending) -> tuple[Position, bool, list[int], list[int], bool]:
    """Return what matters of a mending, with offsets for publications."""
    came = [it.offset for it in mending.publications]
    return mending.start, mending.lost, came, [it.offset for it in mending.beyond], mending.whole


# --- joining a page with what is held


def test_what_is_missing_comes_before_what_is_held() -> None:
    """Page and held publications are one row, each once; how many only history had is counted."""
    mending = mend(Position(5, OLD), page(6, 7, 8, top=8), holding(*pubs(8, 9, 7, 9)))
    assert (Position(5, OLD), False, [6, 7, 8, 9], [], True) == summary(mending)
    assert 1 == mending.fetched


def test_nothing_was_missing() -> None:
    """An empty page with the channel's own position is all there is."""
    mending = mend(Position(5, OLD), page(top=5), holding())
    assert (Position(5, OLD), False, [], [], True) == summary(mending)


def test_what_history_has_trimmed_may_still_be_held() -> None:
    """With a short history, nothing need be lost that arrived."""
    mending = mend(Position(5, OLD), page(9, top=9), holding(*pubs(6, 7, 8), known=3))
    assert (Position(5, OLD), False, [6, 7, 8, 9], [], True) == summary(mending)


def test_what_is_trimmed_is_lost() -> None:
    """The channel goes on with the first that is left, or from the top."""
    mending = mend(Position(5, OLD), page(9, 10, top=10), holding(*pubs(11)))
    assert (Position(8, OLD), True, [9, 10, 11], [], True) == summary(mending)
    mending = mend(Position(5, OLD), page(top=10), holding(*pubs(12)))
    assert (Position(10, OLD), True, [], [12], False) == summary(mending)


def test_a_page_that_ends_early_is_read_on() -> None:
    """Because of its limit, or of an entry that nobody can read."""
    mending = mend(Position(5, OLD), page(6, 7, top=20), holding())
    assert (Position(5, OLD), False, [6, 7], [], False) == summary(mending)
    mending = mend(Position(5, OLD), page(6, 8, top=8), holding())
    assert (Position(5, OLD), False, [6], [], False) == summary(mending)


def test_a_hole_behind_the_page_needs_another_page() -> None:
    """What arrived after the read was sent may be beyond it; what arrived before is in no stream any more."""
    mending = mend(Position(5, OLD), page(6, top=6), holding(*pubs(9, 8), known=1))
    assert (Position(5, OLD), False, [6], [8], False) == summary(mending)
    mending = mend(Position(5, OLD), page(6, top=6), holding(*pubs(9, 8), known=2))
    assert (Position(5, OLD), False, [6], [], True) == summary(mending)


def test_a_stranger_among_the_held_needs_another_page_if_it_is_new() -> None:
    """Its offset does not make it the next one; one that came before the read is of a stream that is no more."""
    for offset in (6, 1):
        stranger = pubs(offset, epoch=NEW)
        mending = mend(Position(5, OLD), page(top=5), holding(*stranger))
        assert (Position(5, OLD), False, [], [offset], False) == summary(mending)
        mending = mend(Position(5, OLD), page(top=5), holding(*stranger, known=1))
        assert (Position(5, OLD), False, [], [], True) == summary(mending)


def test_a_new_stream_goes_on_from_its_top() -> None:
    """What is in it was for those who come back; what is held of the old one is dropped."""
    mending = mend(Position(5, OLD), page(6, 7, top=7, epoch=NEW), holding(*pubs(7), *pubs(8, epoch=NEW), known=1))
    assert (Position(7, NEW), True, [8], [], True) == summary(mending)


def test_a_new_stream_goes_on_from_the_first_who_knows_it() -> None:
    """Replies of it have been given: these recipients miss nothing, even if another page is needed for that."""
    others = [Position(6, NEW), Position(3, NEW), Position(1, OLD), Position(99, NEW)]
    mending = mend(Position(2, OLD), page(3, 4, 5, 6, top=6, epoch=NEW), holding(), others)
    assert (Position(3, NEW), True, [4, 5, 6], [], True) == summary(mending)
    mending = mend(Position(5, OLD), page(6, top=6, epoch=NEW), holding(), others)
    assert (Position(3, NEW), True, [], [], False) == summary(mending)


def test_a_stream_that_has_fallen_back_is_another_one() -> None:
    """A server that lost what it had acknowledged."""
    mending = mend(Position(5, OLD), page(top=3), holding())
    assert (Position(3, OLD), True, [], [], True) == summary(mending)


# --- a repair's own state


def test_held_bytes_are_bounded() -> None:
    """Data and a little for each event count; what is over the limit costs all that is held."""
    repair = Repair(0.0)
    large = Publication(b"x" * (HELD_LIMIT // 2 - EVENT_COST), 1, OLD)
    assert repair.hold(large)
    assert repair.hold(large)
    assert HELD_LIMIT == repair.size
    assert not repair.hold(pubs(3)[0])
    assert ([], 0, 1, False) == (repair.held, repair.size, repair.overflows, repair.stale)
    assert not repair.hold(large, room=100)
    assert repair.hold(pubs(4)[0], room=100)


def test_an_overflow_while_reading_needs_another_read() -> None:
    """The one under way does not know what was dropped."""
    repair = Repair(0.0)
    repair.hold(pubs(7)[0])
    repair.sent()
    assert (Stage.READING, 1) == (repair.stage, repair.known)
    repair.hold(pubs(8)[0], room=0)
    assert not repair.answered(mend(Position(5, OLD), page(6, top=6), repair))
    assert 1 == repair.overflows
    repair.sent()
    assert repair.answered(mend(Position(6, OLD), page(7, 8, top=8), repair))
    assert (0, 3, False, Stage.WAITING) == (repair.overflows, repair.fetched, repair.lost, repair.stage)


def test_a_doubt_while_reading_needs_another_read_and_one_before_does_not() -> None:
    """A read that is sent later settles what was doubted."""
    repair = Repair(0.0)
    repair.doubt()
    repair.sent()
    nothing = mend(Position(5, OLD), page(top=5), repair)
    assert repair.answered(nothing)
    repair.sent()
    repair.doubt()
    assert not repair.answered(nothing)


def test_what_is_beyond_stays_held_and_a_loss_is_remembered() -> None:
    """Several pages are one repair."""
    repair = holding(*pubs(12))
    assert not repair.answered(mend(Position(5, OLD), page(top=10), repair))
    assert ([12], EVENT_COST, True) == ([it.offset for it in repair.held], repair.size, repair.lost)
    repair.sent()
    assert repair.answered(mend(Position(10, OLD), page(11, 12, top=12), repair))
    assert repair.lost
