from __future__ import annotations

import pytest

from loadtests.oracle.roll import Roll

J, L = True, False


@pytest.mark.parametrize(
    ("story", "at_first", "joined", "at_last", "fault"),
    [
        # What may be.
        ([], True, False, True, ""),
        ([J], False, True, True, ""),
        ([J], True, False, True, ""),  # its join and the answer that counts it came one after the other
        ([J, L], False, True, False, ""),
        ([L], True, False, False, ""),
        ([J, L], True, True, False, ""),
        ([L], False, False, False, ""),  # it left just before presence was asked for
        ([], False, False, False, ""),
        # What may not.
        ([], False, True, False, "a join was lost"),
        ([], False, False, True, "a join was lost"),
        ([], False, True, True, "a join was lost"),
        ([L], False, True, False, "a join was lost"),
        ([J], False, True, False, "a leave was lost"),
        ([], True, False, False, "a leave was lost"),
        ([J], True, False, False, "a leave was lost"),
        ([J, L], False, True, True, "a leave came of somebody who is there"),
        ([L], True, False, True, "a leave came of somebody who is there"),
        ([J, J], False, True, True, "repeated or turned round"),
        ([L, J], False, True, True, "repeated or turned round"),
        ([J, L, L], False, True, False, "repeated or turned round"),
        ([L, L], True, False, False, "repeated or turned round"),
    ],
)
def test_the_story_of_one_member(story: list[bool], at_first: bool, joined: bool, at_last: bool, fault: str) -> None:
    """A join and a leave, each at most once and in this order, and none missing that the observer should have heard."""
    roll = Roll("room")
    for it in story:
        roll.told("x", it)
    roll.present = frozenset({"x"} if at_first else ())
    faults = roll.faults(joined={"x"} if joined else (), present={"x"} if at_last else ())
    assert bool(fault) == bool(faults)
    assert all("in room: x" in it for it in faults)
    assert fault in "".join(faults)
    assert len(story) == roll.heard


def test_each_member_is_judged_by_itself() -> None:
    """Faults of several members are all there, in the order of their ids."""
    roll = Roll("room")
    for who in ("b", "a", "c"):
        roll.told(who, joined=True)
    roll.told("c", joined=False)
    faults = roll.faults(joined=("a", "b", "c", "d"), present=("b",))
    assert ["a leave was lost in room: a", "a join was lost in room: d", "a leave was lost in room: d"] == faults
