"""What is barred, up to when, and what goes when there is too much of it."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.protocol.messages import Revoke
from gateway.protocol.revocations import Denylist, subject
from gateway.types import Identity, UserId

NOW = 1000.0
ALICE = Identity(UserId("alice"), session_id="s1", token_id="t1", key_id="k1", issued_at=500.0)
NOBODY = Identity(UserId(""))


def revoke(until: float = NOW + 60, **fields: Any) -> Revoke:
    """Return a revocation."""
    return Revoke(id="1", until=until, **fields)


BY_KIND: dict[str, dict[str, Any]] = {
    "sid": {"session_id": "s1"},
    "jti": {"token_id": "t1"},
    "kid": {"key_id": "k1"},
    "user": {"user": "alice"},
}


@pytest.mark.parametrize("kind", BY_KIND)
def test_what_fits_is_barred_up_to_the_end(kind: str) -> None:
    """A session, a token, a key or a user, each by its own claim; at the end itself it is over, and forgotten."""
    denied, other = Denylist(), Identity(UserId("bob"), session_id="s2", token_id="t2", key_id="k2")
    one = revoke(**BY_KIND[kind], issued_before=500)
    assert 0 == denied.add(one, NOW)
    assert (kind, BY_KIND[kind].popitem()[1]) == subject(one)
    assert one is denied.find(ALICE, NOW + 59.9)
    assert (None, None) == (denied.find(other, NOW), denied.find(NOBODY, NOW))
    assert 1 == denied.size
    assert denied.find(ALICE, NOW + 60) is None
    assert 0 == denied.size


@pytest.mark.parametrize(
    ("issued_at", "barred"), [(None, True), (499.0, True), (500.0, True), (500.9, True), (501.0, False)]
)
def test_of_a_user_later_tokens_are_good(issued_at: float | None, barred: bool) -> None:
    """Those of that second are not, nor those that do not say when they were issued."""
    denied = Denylist()
    denied.add(revoke(user="alice", issued_before=500), NOW)
    assert barred is (denied.find(Identity(UserId("alice"), issued_at=issued_at), NOW) is not None)


def test_a_key_is_barred_whoever_names_it() -> None:
    """Asked before the key is even looked for."""
    denied = Denylist()
    denied.add(revoke(key_id="k1"), NOW)
    assert [True, False, False] == [denied.bars_key(it, NOW) for it in ("k1", "k2", "")]
    assert not denied.bars_key("k1", NOW + 60)


def test_of_two_about_one_thing_the_wider_counts() -> None:
    """An earlier end or an earlier second takes nothing back; code and reason are those of the later call."""
    denied = Denylist()
    denied.add(revoke(NOW + 60, user="alice", issued_before=400), NOW)
    denied.add(revoke(NOW + 30, user="alice", issued_before=600, code=4000, reason="go"), NOW)
    found = denied.find(ALICE, NOW + 59)
    assert found is not None
    assert (NOW + 60, 600, 4000, "go") == (found.until, found.issued_before, found.code, found.reason)
    denied.add(revoke(NOW + 90, user="alice", issued_before=300), NOW)
    assert denied.find(ALICE, NOW + 89) is not None
    assert denied.find(ALICE, NOW + 90) is None
    assert 0 == denied.size


def test_one_that_has_ended_widens_no_other() -> None:
    """A user who is revoked anew right then keeps the tokens that only the first revocation was about."""
    denied = Denylist()
    denied.add(revoke(until=NOW + 1, user="alice", issued_before=500), NOW)
    denied.add(revoke(until=NOW + 9, user="alice", issued_before=400), NOW + 1)
    assert denied.find(ALICE, NOW + 1) is None
    assert 1 == denied.size


def test_beyond_the_limit_those_go_that_end_soonest() -> None:
    """The new one too, if it is that; how many had to go is told."""
    denied = Denylist(limit=2)
    gone = [denied.add(revoke(NOW + end, session_id=f"s{end}"), NOW) for end in (30, 10, 20, 5)]
    assert [0, 0, 1, 1] == gone
    held = {n for n in (5, 10, 20, 30) if denied.find(Identity(UserId(""), session_id=f"s{n}"), NOW)}
    assert {20, 30} == held
    assert 0 == denied.add(revoke(NOW + 40, session_id="s20"), NOW)
    assert 1 == denied.add(revoke(NOW + 35, session_id="s35"), NOW), "the end that has moved does not count any more"
    assert {20, 35} == {n for n in (20, 30, 35) if denied.find(Identity(UserId(""), session_id=f"s{n}"), NOW)}


def test_the_same_one_again_and_again_takes_no_room() -> None:
    """Ends that have moved do not pile up."""
    denied = Denylist()
    for n in range(10_000):
        denied.add(revoke(NOW + 60 + n, session_id="s1"), NOW)
    assert 1 == denied.size
    assert 100 > len(denied._ends)
    assert denied.find(ALICE, NOW + 10_058) is not None
    assert denied.find(ALICE, NOW + 10_059) is None
