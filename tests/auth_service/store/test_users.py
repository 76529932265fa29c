"""Users in the store, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from auth_service.store import Account, Claims, open_database
from tests.auth_service.store.storing import NOW, Shelf, at


@pytest.fixture(name="shelf")
async def _shelf(database_url: str) -> AsyncIterator[Shelf]:
    async with open_database(database_url) as transactions:
        yield Shelf(transactions)


async def test_a_user_is_kept_with_all_that_is_known(shelf: Shelf) -> None:
    """Found in whatever case of letters; information may be any JSON."""
    alice = Account("Alice", "hash", NOW, claims=Claims(("a", "b"), {"deep": [1, None, "ü€😀"]}, ("news", "$x:y")))
    bob = Account("bob", "hash", NOW, disabled_at=NOW + 1, claims=Claims(info=False))
    assert await shelf.users.add(bob)
    assert await shelf.users.add(alice)
    assert alice == await shelf.users.find("aLICE")
    assert [alice, bob] == await shelf.users.all()
    assert await shelf.users.find("carol") is None


@pytest.mark.parametrize("name", ["\0", "a\0b", "a\nb", "\udcff"])
async def test_a_name_that_no_database_would_read_is_nobodys(shelf: Shelf, name: str) -> None:
    """PostgreSQL refuses NUL, and no driver sends half a character: it is no user, and not a database that failed."""
    assert await shelf.users.find(name) is None


async def test_of_many_with_one_name_one_is_added(shelf: Shelf) -> None:
    """At the same moment, in whatever case of letters."""
    names = ["alice", "Alice", "ALICE", "aLiCe"] * 5
    added = await asyncio.gather(*(shelf.users.add(Account(name, "hash", NOW)) for name in names))
    assert 1 == sum(added)
    assert 1 == await shelf.count("users")


async def test_another_password_ends_all_sessions_but_one(shelf: Shelf) -> None:
    """And does nothing if the password is not the one that was verified any more."""
    await shelf.user("alice")
    await shelf.user("bob")
    for each in ("s1", "s2", "s3"):
        await shelf.session(each)
    await shelf.session("b1", "bob")
    ending = at(NOW, "password")
    assert await shelf.users.set_password("alice", "new", ending, old="other", keep="s2") is None
    assert [] == shelf.outbox.entered
    ended = await shelf.users.set_password("alice", "new", ending, old="hash", keep="s2")
    assert ended is not None
    assert {"s1", "s3"} == set(ended) == {value for _, value, _ in shelf.outbox.entered}
    assert ["s2"] == [it.session_id for it in await shelf.sessions.of_user("alice", NOW, limit=9)]
    found = await shelf.users.find("alice")
    assert found is not None
    assert "new" == found.password_hash
    assert ["s2"] == await shelf.users.set_password("alice", "newer", ending)
    assert await shelf.users.set_password("nobody", "new", ending) is None
    assert 1 == len(await shelf.sessions.of_user("bob", NOW, limit=9))


async def test_a_renewed_hash_does_not_undo_a_change(shelf: Shelf) -> None:
    """The same password, hashed anew, takes the place of its own hash only."""
    await shelf.user("alice")
    await shelf.users.renew_hash("alice", "other", "renewed")
    await shelf.users.renew_hash("alice", "hash", "better")
    await shelf.users.renew_hash("alice", "hash", "late")
    found = await shelf.users.find("alice")
    assert found is not None
    assert "better" == found.password_hash


async def test_a_disabled_user_has_no_sessions(shelf: Shelf) -> None:
    """They end with it, and do not come back when the user is enabled."""
    await shelf.user("alice")
    await shelf.session("s1")
    assert ["s1"] == await shelf.users.disable("alice", at(NOW, "disabled"))
    assert [("sid", "s1", NOW + 660)] == shelf.outbox.entered
    assert [] == await shelf.users.disable("alice", at(NOW + 1, "disabled"))
    assert await shelf.sessions.live("s1", NOW) is None
    assert await shelf.users.enable("alice")
    assert await shelf.sessions.live("s1", NOW) is None
    await shelf.session("s2")
    assert await shelf.users.disable("nobody", at(NOW, "disabled")) is None
    assert not await shelf.users.enable("nobody")


async def test_claims_are_said_from_the_next_token_on(shelf: Shelf) -> None:
    """A live session sees what was set last; taking all away leaves nothing to say."""
    await shelf.user("alice")
    await shelf.session("s1")
    for claims, said in (
        (Claims(("admin",), 0, ("news",)), {"roles": ["admin"], "info": 0, "channels": ["news"]}),
        (Claims(), {}),
    ):
        assert await shelf.users.set_claims("alice", claims)
        live = await shelf.sessions.live("s1", NOW)
        assert live is not None
        assert said == live.claims.said()
    assert not await shelf.users.set_claims("nobody", Claims())
