"""Sessions and their refresh tokens, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from auth_service.store import Claims, Live, Login, Reused, Rotated, open_database
from auth_service.store.purging import purge
from tests.auth_service.store.storing import GRACE, IDLE, LIFE, NOW, Shelf, at


@pytest.fixture(name="shelf")
async def _shelf(database_url: str) -> AsyncIterator[Shelf]:
    async with open_database(database_url) as transactions:
        shelf = Shelf(transactions)
        await shelf.user("alice", Claims(("admin",), {"name": "Alice"}, ("news",)))
        yield shelf


async def rotated(shelf: Shelf, token: str, now: float) -> Rotated:
    """Use a refresh token that is good."""
    done = await shelf.sessions.rotate(token, at(now))
    assert isinstance(done, Rotated)
    return done


async def test_a_session_is_found_with_what_its_user_may_say(shelf: Shelf) -> None:
    """By its id, and by its refresh token, used or not."""
    await shelf.session("s1")
    expected = Live("s1", "alice", NOW, Claims(("admin",), {"name": "Alice"}, ("news",)))
    assert expected == await shelf.sessions.live("s1", NOW)
    assert expected == await shelf.sessions.of_token("s1", NOW)
    await rotated(shelf, "s1", NOW + 1)
    assert expected == await shelf.sessions.of_token("s1", NOW)
    assert await shelf.sessions.live("s2", NOW) is None
    assert await shelf.sessions.of_token("s2", NOW) is None


async def test_a_refresh_token_is_used_once(shelf: Shelf) -> None:
    """Each gives the next, and the session knows when it was used."""
    await shelf.session("s1")
    token, seen = "s1", {"s1"}
    for step in range(1, 6):
        done = await rotated(shelf, token, NOW + step * 100)
        assert ("s1", "alice", False) == (done.live.session_id, done.live.user, done.again)
        token = done.token
        seen.add(token)
    assert 6 == len(seen)
    (listed,) = await shelf.sessions.of_user("alice", NOW + 500, limit=10)
    assert (NOW, NOW + 500, NOW + LIFE, "curl", "192.0.2.1") == (
        listed.created_at,
        listed.used_at,
        listed.ends_at,
        listed.agent,
        listed.address,
    )


async def test_a_hundred_uses_at_once_make_one_lineage(shelf: Shelf) -> None:
    """All get the same successor, one of them first; so it goes on with the successor."""
    await shelf.session("s1")
    token = "s1"
    for step in range(3):
        done = await asyncio.gather(*(rotated(shelf, token, NOW + step) for _ in range(100)))
        assert 1 == len({each.token for each in done})
        assert 1 == sum(not each.again for each in done)
        token = done[0].token
    assert 4 == await shelf.count("refresh_tokens")
    assert [] == shelf.outbox.entered
    assert await shelf.sessions.live("s1", NOW) is not None


async def test_who_lost_the_answer_gets_it_again_for_ten_seconds(shelf: Shelf) -> None:
    """The same successor, which is good; after that a second use is somebody else's."""
    await shelf.session("s1")
    first = await rotated(shelf, "s1", NOW)
    again = await rotated(shelf, "s1", NOW + GRACE)
    assert (first.token, True) == (again.token, again.again)
    assert Reused("s1", "alice") == await shelf.sessions.rotate("s1", at(NOW + GRACE + 0.1))
    assert [("sid", "s1", NOW + GRACE + 0.1 + 660)] == shelf.outbox.entered
    assert await shelf.sessions.live("s1", NOW) is None
    assert await shelf.sessions.rotate(first.token, at(NOW + GRACE + 0.2)) is None, "the family is gone"
    assert await shelf.sessions.rotate("s1", at(NOW + GRACE + 0.3)) is None
    assert 1 == len(shelf.outbox.entered), "told once"


async def test_a_token_whose_successor_was_used_is_reuse_at_once(shelf: Shelf) -> None:
    """Whoever has the successor got the answer: the second holder of the old one is another."""
    await shelf.session("s1")
    first = await rotated(shelf, "s1", NOW)
    await rotated(shelf, first.token, NOW + 1)
    assert Reused("s1", "alice") == await shelf.sessions.rotate("s1", at(NOW + 2))
    async with shelf.transactions() as session:
        ended = (await session.execute(text("SELECT ended_by, ended_at FROM sessions"))).one()
    assert ("reuse", NOW + 2) == tuple(ended)


async def test_no_more_than_one_successor_can_be_read_at_a_time(shelf: Shelf) -> None:
    """With the database and an old token nobody gets from one successor to the next: only the last is kept."""
    await shelf.session("s1")
    token = "s1"
    for step in range(4):
        token = (await rotated(shelf, token, NOW + step)).token
    async with shelf.transactions() as session:
        rows = await session.execute(text("SELECT COUNT(*) FROM refresh_tokens WHERE successor IS NOT NULL"))
    assert 1 == rows.scalar_one()


async def test_ends_of_refresh_tokens_and_sessions(shelf: Shelf) -> None:
    """A refresh token ends when it lies unused, a session at its time; neither is reuse, nobody is told."""
    await shelf.session("s1")
    assert await shelf.sessions.rotate("s1", at(NOW + IDLE)) is None
    token = (await rotated(shelf, "s1", NOW + IDLE - 1)).token
    for _ in range(3):
        now = NOW + LIFE - 1
        async with shelf.transactions.begin() as session:  # as if it had been refreshed now and then
            await session.execute(text("UPDATE refresh_tokens SET expires_at = :at"), {"at": now + IDLE})
        token = (await rotated(shelf, token, now)).token
    assert await shelf.sessions.rotate(token, at(NOW + LIFE)) is None
    assert await shelf.sessions.live("s1", NOW + LIFE) is None
    assert await shelf.sessions.of_token(token, NOW + LIFE) is None
    assert await shelf.sessions.rotate("unknown", at(NOW)) is None
    assert [] == shelf.outbox.entered


async def test_a_session_is_ended_by_its_user_only(shelf: Shelf) -> None:
    """Once; then it is not listed, not live, and cannot be refreshed."""
    await shelf.user("bob")
    await shelf.session("s1")
    await shelf.session("s2")
    assert not await shelf.sessions.end("s1", "bob", at(NOW, "revoked"))
    assert await shelf.sessions.end("s1", "alice", at(NOW, "revoked"))
    assert not await shelf.sessions.end("s1", "alice", at(NOW, "revoked"))
    assert [("sid", "s1", NOW + 660)] == shelf.outbox.entered
    assert ["s2"] == [it.session_id for it in await shelf.sessions.of_user("alice", NOW, limit=9)]
    assert await shelf.sessions.live("s1", NOW) is None
    assert await shelf.sessions.rotate("s1", at(NOW)) is None


@pytest.mark.parametrize("session_id", ["\0", "s1\0", "\udcff"])
async def test_an_id_that_no_database_would_read_is_no_session(shelf: Shelf, session_id: str) -> None:
    """As with names: there is none that could end."""
    assert await shelf.sessions.live(session_id, NOW) is None
    assert not await shelf.sessions.end(session_id, "alice", at(NOW, "revoked"))


async def test_all_sessions_of_a_user_end(shelf: Shelf) -> None:
    """And nobody else's; those that had ended are not told again."""
    await shelf.user("bob")
    for each in ("s1", "s2", "s3"):
        await shelf.session(each)
    await shelf.session("b1", "bob")
    await shelf.sessions.end("s1", "alice", at(NOW, "logout"))
    assert {"s2", "s3"} == set(await shelf.sessions.end_all("alice", at(NOW, "logout")))
    assert [] == await shelf.sessions.end_all("alice", at(NOW, "logout"))
    assert {"s1", "s2", "s3"} == {value for _, value, _ in shelf.outbox.entered}
    assert await shelf.sessions.live("b1", NOW) is not None


async def test_the_list_begins_with_the_one_last_used(shelf: Shelf) -> None:
    """It holds so many at most, and none that cannot be refreshed any more."""
    for number in range(4):
        await shelf.session(f"s{number}", now=NOW + number)
    await rotated(shelf, "s1", NOW + 100)
    listed = [it.session_id for it in await shelf.sessions.of_user("alice", NOW + 100, limit=3)]
    assert ["s1", "s3", "s2"] == listed
    assert ["s1"] == [it.session_id for it in await shelf.sessions.of_user("alice", NOW + 50 + IDLE, limit=3)]


@pytest.mark.parametrize("change", ["password", "disabled"])
async def test_a_log_in_that_was_overtaken_begins_no_session(shelf: Shelf, change: str) -> None:
    """Between the check of the password and the session, the password was changed or the user disabled."""
    if change == "password":
        await shelf.users.set_password("alice", "other", at(NOW, "password"))
    else:
        await shelf.users.disable("alice", at(NOW, "disabled"))
    login = Login("s1", "alice", NOW, NOW + LIFE)
    assert await shelf.sessions.begin(login, "s1", verified="hash") is None
    assert 0 == await shelf.count("sessions")


async def test_log_ins_and_a_disabling_at_once(shelf: Shelf) -> None:
    """Whichever is first: afterwards no session lives."""

    async def log_in(number: int) -> Live | None:
        login = Login(f"s{number}", "alice", NOW, NOW + LIFE)
        return await shelf.sessions.begin(login, f"s{number}", verified="hash")

    tasks = [asyncio.create_task(log_in(number)) for number in range(20)]
    await asyncio.sleep(0)
    ended = await shelf.users.disable("alice", at(NOW, "disabled"))
    begun = [it.session_id for it in await asyncio.gather(*tasks) if it is not None]
    assert ended is not None
    assert set(begun) == set(ended) == {value for _, value, _ in shelf.outbox.entered}
    assert [] == await shelf.sessions.of_user("alice", NOW, limit=99)


async def test_refreshes_and_an_end_at_once(shelf: Shelf) -> None:
    """Whatever a refresh gave before the end is worth nothing after it."""
    await shelf.session("s1")

    async def refresh() -> Rotated | Reused | None:
        return await shelf.sessions.rotate("s1", at(NOW))

    tasks = [asyncio.create_task(refresh()) for _ in range(10)]
    assert await shelf.sessions.end("s1", "alice", at(NOW, "logout"))
    given = {it.token for it in await asyncio.gather(*tasks) if isinstance(it, Rotated)}
    assert len(given) <= 1
    for token in given:
        assert await shelf.sessions.rotate(token, at(NOW)) is None


async def test_what_has_expired_is_deleted(shelf: Shelf) -> None:
    """Sessions that are over or that nothing can refresh any more, with their tokens, however many there are."""
    await shelf.session("over")
    await shelf.session("idle", now=NOW + LIFE - 8000)
    await shelf.session("live", now=NOW + LIFE - 5)
    async with shelf.transactions.begin() as session:
        await session.execute(
            text("INSERT INTO throttles VALUES ('old', 1, 0, 0, :old), ('new', 1, 0, 0, :new)"),
            {"old": NOW, "new": NOW + 2 * LIFE},
        )
        await session.execute(text("UPDATE sessions SET ends_at = ends_at + 99999 WHERE id = 'idle'"))
        many = [{"digest": number.to_bytes(32, "big"), "at": NOW} for number in range(2500)]
        await session.execute(text("INSERT INTO refresh_tokens VALUES (:digest, 'live', :at, NULL, NULL)"), many)
    assert 2500 + 2 + 2 + 1 == await purge(shelf.transactions, NOW + LIFE)
    assert (1, 1, 1) == (
        await shelf.count("sessions"),
        await shelf.count("refresh_tokens"),
        await shelf.count("throttles"),
    )
    assert 0 == await purge(shelf.transactions, NOW + LIFE)
    assert await shelf.sessions.live("live", NOW + LIFE) is not None
