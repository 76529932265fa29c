"""The cache of good tokens."""

from __future__ import annotations

from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.tokens.cache import TokenCache
from gateway.types import Identity, UserId


def entry(user: str, *, token: str = "", session: str = "", key: str = "") -> Identity:
    """Make an identity."""
    return Identity(user=UserId(user), token_id=token, session_id=session, key_id=key)


def test_the_least_recently_used_goes_first() -> None:
    """At the limit a newcomer pushes out what was not asked for the longest, not what came first."""
    cache = TokenCache(limit=2)
    cache.put(b"1", entry("a"), 9.0)
    cache.put(b"2", entry("b"), 9.0)
    assert entry("a") == cache.get(b"1", 0.0)
    cache.put(b"3", entry("c"), 9.0)
    assert [True, False, True] == [cache.get(digest, 0.0) is not None for digest in (b"1", b"2", b"3")]


def test_an_entry_ends_with_its_token() -> None:
    """At its end an entry is neither returned nor kept."""
    cache = TokenCache(limit=2)
    cache.put(b"1", entry("a", token="t", session="s"), 9.0)
    assert cache.get(b"1", 8.9)
    assert cache.get(b"1", 9.0) is None
    assert 0 == len(cache)


def test_one_token_in_two_spellings() -> None:
    """Dropping a token id takes every form of the token: some signatures can be written in two ways."""
    cache = TokenCache(limit=9)
    cache.put(b"1", entry("a", token="t"), 9.0)
    cache.put(b"2", entry("a", token="t"), 9.0)
    cache.drop_token("t")
    assert 0 == len(cache)


@pytest.mark.parametrize("limit", [1, 3])
@settings(deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from("ptskge"), st.integers(0, 5)), max_size=40))
def test_indexes_hold_what_the_entries_hold(limit: int, steps: list[tuple[str, int]]) -> None:
    """After any puts, gets, drops and evictions the indexes name exactly the entries, and the limit holds."""
    cache = TokenCache(limit=limit)
    for step, n in steps:
        match step:
            case "p":
                cache.put(bytes([n]), entry("u", token=f"t{n % 3}", session=f"s{n % 2}", key=f"k{n % 2}"), float(n))
            case "t":
                cache.drop_token(f"t{n}")
            case "s":
                cache.drop_session(f"s{n}")
            case "k":
                cache.drop_key(f"k{n}")
            case _:
                cache.get(bytes([n]), float(n) if step == "e" else 0.0)
        assert len(cache) <= limit
        for index in (cache._by_token_id, cache._by_session):
            assert set(cache._entries) == {digest for name in index._digests for digest in index.find(name)}


def test_what_an_entry_weighs() -> None:
    """The index of an entry costs nothing but its place, no sets: 50,000 entries stay within tens of megabytes."""
    cache = TokenCache(limit=9)
    digest = b"1" * 32
    cache.put(digest, entry("a", token="t", session="s"), 9.0)
    cache.put(b"2" * 32, entry("a", token="u", session="s"), 9.0)
    cache.drop_token("u")
    assert cache._by_session._digests["s"] is digest
    assert cache._by_token_id._digests["t"] is digest


def test_many_tokens_of_one_session_cost_no_more_than_many_sessions() -> None:
    """Who fetches tokens by the thousand cannot have the end of his session hold up a whole node for minutes."""
    spent = []
    for sessions in (20_000, 1):
        cache = TokenCache(limit=10_000)
        began = process_time()
        for n in range(20_000):
            cache.put(n.to_bytes(32), entry("a", token=f"t{n}", session=f"s{n % sessions}"), 9.0)
        for n in range(sessions):
            cache.drop_session(f"s{n}")
        spent.append(process_time() - began)
        assert 0 == len(cache)
    assert spent[1] < 10 * spent[0]
