"""A key is revoked that its issuer still publishes: a real HTTP server on a real socket."""

from __future__ import annotations

import pytest

from gateway.errors import TokenError
from gateway.protocol.messages import Revoke
from gateway.tokens import TokenVerifier, Trust
from tests.integration.test_jwks import EC, NEW, OLD, Issuer, listening
from tests.support.clock import ManualClock
from tests.support.engines import eventually
from tests.support.recorder import MemoryRecorder
from tests.unit.tokens.signing import NOW, good

REVOCATION = Revoke(id="1", until=NOW + 300, key_id="old")


def verifying(issuer: Issuer, clock: ManualClock) -> TokenVerifier:
    """Make a verifier that fetches from this issuer, without chance in its pauses."""
    return TokenVerifier(Trust(jwks_url=issuer.url), clock=clock, recorder=MemoryRecorder(), chance=lambda: 0.0)


async def asked(issuer: Issuer, times: int) -> None:
    """Wait until the issuer was asked so often."""

    async def often() -> bool:
        return issuer.hits >= times

    await eventually(often)


async def test_a_revoked_key_goes_at_once_and_stays_out_though_it_is_published(clock: ManualClock) -> None:
    """Its tokens are refused with 109 before the issuer has answered, and after; the set is fetched once for all."""
    async with listening() as issuer, verifying(issuer, clock) as verifier:
        issuer.publish(OLD, EC)
        token, other = OLD.token(good()), EC.token(good())
        for one in (token, other):
            assert "alice" == (await verifier.verify(one)).user
        clock.advance(11)
        issuer.open.clear()
        verifier.revoke(REVOCATION)
        verifier.revoke(REVOCATION)
        await asked(issuer, 2)  # without any token that would ask for it
        refused = verifier.known(token, clock.wall())
        assert isinstance(refused, TokenError)
        assert 109 == refused.code
        issuer.publish(OLD, EC, NEW)
        issuer.open.set()
        assert "alice" == (await verifier.verify(NEW.token(good()))).user
        assert 2 == issuer.hits
        with pytest.raises(TokenError, match="109"):
            await verifier.verify(token)
        with pytest.raises(TokenError, match="109"):
            await verifier.verify(OLD.token(good(sub="mallory")))
        assert "alice" == (await verifier.verify(other)).user
        clock.advance(300)
        assert "alice" == (await verifier.verify(token)).user, "its caller wanted it so"


async def test_a_set_that_was_just_fetched_is_fetched_when_it_may_be(clock: ManualClock) -> None:
    """Not before the pause between two tries is over; then by the first token that comes, of whatever key."""
    async with listening() as issuer, verifying(issuer, clock) as verifier:
        issuer.publish(OLD, EC)
        await verifier.verify(OLD.token(good()))
        verifier.revoke(REVOCATION)
        verifier.known(EC.token(good()), clock.wall())
        clock.advance(9.9)
        verifier.known(EC.token(good()), clock.wall())
        assert 1 == issuer.hits
        clock.advance(0.2)
        verifier.known(EC.token(good()), clock.wall())
        await asked(issuer, 2)


async def test_a_key_that_is_not_held_is_no_reason_to_ask(clock: ManualClock) -> None:
    """Neither before the first fetch nor after; made-up ids must not become requests."""
    async with listening() as issuer, verifying(issuer, clock) as verifier:
        verifier.revoke(REVOCATION)
        issuer.publish(EC)
        await verifier.verify(EC.token(good()))
        clock.advance(11)
        verifier.revoke(Revoke(id="2", until=NOW + 300, key_id="made up"))
        with pytest.raises(TokenError, match="109"):
            await verifier.verify(EC.token(good(), kid="made up"))
        assert 1 == issuer.hits
