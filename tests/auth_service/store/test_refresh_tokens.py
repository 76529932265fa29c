"""Refresh tokens: what is stored of one, and who can read its successor."""

from __future__ import annotations

from auth_service.store import refresh_tokens


def test_tokens_are_long_and_differ() -> None:
    """Each has 256 random bits, and a form that scanners for secrets know."""
    made = {refresh_tokens.new() for _ in range(1000)}
    assert 1000 == len(made)
    assert {("rt_", 46)} == {(token[:3], len(token)) for token in made}


def test_a_successor_is_read_with_its_token_alone() -> None:
    """Not with another one, not when a bit is changed; and it fits into its column."""
    token, successor = refresh_tokens.new(), refresh_tokens.new()
    box = refresh_tokens.sealed(successor, token)
    assert len(box) <= 96
    assert successor == refresh_tokens.opened(box, token)
    assert refresh_tokens.opened(box, successor) is None
    assert refresh_tokens.opened(box[:-1] + bytes([box[-1] ^ 1]), token) is None
    assert successor.encode() not in box
    assert box != refresh_tokens.sealed(successor, token)
