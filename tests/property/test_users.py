"""The limit of a user's connections: nodes that know only a part never end a connection too many."""

from __future__ import annotations

from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from gateway.types import ConnectionId
from gateway.users import Age, UserRules, surplus

ages = st.lists(
    st.tuples(st.integers(0, 5), st.text("abcdef", min_size=1, max_size=4).map(ConnectionId)),
    unique_by=lambda age: age[1],
    max_size=12,
)
policies = st.sampled_from(("oldest", "newest"))


@given(whole=ages, data=st.data(), limit=st.integers(1, 6), closes=policies)
def test_surplus_in_a_part_is_surplus_in_the_whole(
    whole: list[Age], data: st.DataObject, limit: int, closes: Literal["oldest", "newest"]
) -> None:
    """Whatever parts some nodes have heard, in any order: together they end only what all of it says."""
    rules = UserRules(limit, closes)
    due = set(surplus(whole, rules))
    kept = st.lists(st.sampled_from(whole), unique=True) if whole else st.just([])
    for _ in range(3):
        assert set(surplus(data.draw(kept), rules)) <= due


@given(whole=ages, limit=st.integers(1, 6), closes=policies)
def test_exactly_the_surplus_ends_and_then_nobody(
    whole: list[Age], limit: int, closes: Literal["oldest", "newest"]
) -> None:
    """As many stay as may; judged again, nobody more ends; whoever ends is older, or newer, than all who stay."""
    rules = UserRules(limit, closes)
    ended = surplus(whole, rules)
    staying = [age for age in whole if age[1] not in ended]
    gone = [age for age in whole if age[1] in ended]

    assert max(0, len(whole) - limit) == len(ended)
    assert [] == surplus(staying, rules)
    if staying and gone:
        assert max(gone) < min(staying) if closes == "oldest" else min(gone) > max(staying)
