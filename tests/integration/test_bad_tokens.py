"""Bad tokens of every kind, before the verifier and before a node on a real socket: none gets in, none is costly."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median

import pytest

from gateway.errors import TokenError
from gateway.tokens import TokenVerifier
from gateway.types import Identity
from tests.support.clock import ManualClock
from tests.support.exactness import within
from tests.support.forgeries import (
    ED,
    ISSUER,
    OTHER,
    OTHER_ISSUER,
    PUBLISHED,
    RSA,
    STRANGER,
    Forger,
    trusted,
)
from tests.support.issuing import KEYS, Issuer, issuing
from tests.support.rawsocket import CLOSE, TEXT, RawSocket, masked, upgrade
from tests.support.recorder import MemoryRecorder
from tests.support.serving import Serving, serving
from tests.unit.tokens.signing import SECRET

INVALID, EXPIRED, CANNOT_TELL = 3500, 109, 100
TOO_BIG = 1009
MILLISECOND = within(0.001, otherwise=5.0)


@pytest.fixture(name="issuer")
async def _issuer() -> AsyncIterator[Issuer]:
    async with issuing() as issuer:
        issuer.say(KEYS, {"keys": PUBLISHED})
        yield issuer


@pytest.fixture(name="other")
async def _other() -> AsyncIterator[Issuer]:
    async with issuing(OTHER) as issuer:
        yield issuer


@pytest.fixture(name="evil")
async def _evil() -> AsyncIterator[Issuer]:
    """Listen where tokens would like us to look."""
    async with issuing(STRANGER) as issuer:
        yield issuer


def cost(verifier: TokenVerifier, token: str, now: float) -> float:
    """Return the median of the seconds of CPU that looking at a token takes."""
    took = []
    for _ in range(5):
        start = time.thread_time()
        verifier.known(token, now)
        took.append(time.thread_time() - start)
    return median(took)


async def test_no_bad_token_passes_the_verifier(
    issuer: Issuer, other: Issuer, evil: Issuer, clock: ManualClock, recorder: MemoryRecorder
) -> None:
    """Each is refused, in a millisecond, without a request to anybody; good tokens pass before and after."""
    forger = Forger(clock.wall(), evil.url)
    bad = forger.bad()
    assert len(bad) >= 130
    async with TokenVerifier(*trusted(issuer.keys_url, other.keys_url), clock=clock, recorder=recorder) as verifier:
        for token in forger.good():
            assert "mallory" == (await verifier.verify(token)).user
        answers = {name: verifier.known(token, clock.wall()) for name, token in bad.items()}
        codes = {name: it.code if isinstance(it, TokenError) else 0 for name, it in answers.items()}
        assert [] == [name for name, code in codes.items() if code not in (INVALID, EXPIRED, CANNOT_TELL)]
        late = {"expired", "expired long ago", "not valid yet", "issued in the future"}
        assert late == {name for name, code in codes.items() if code == EXPIRED}
        slow = {
            name: took for name, token in bad.items() if (took := cost(verifier, token, clock.wall())) > MILLISECOND
        }
        assert {} == slow
        assert all(isinstance(verifier.known(token, clock.wall()), Identity) for token in forger.good())
    assert [] == evil.asked
    assert [1, 1] == [len(it.asked) for it in (issuer, other)]


async def test_ids_of_no_key_are_refused_for_good_after_one_fetch(
    issuer: Issuer, other: Issuer, evil: Issuer, clock: ManualClock, recorder: MemoryRecorder
) -> None:
    """What could have been a new key is none once the issuer was asked again, once for all of them."""
    bad = Forger(clock.wall(), evil.url).bad()
    async with TokenVerifier(*trusted(issuer.keys_url, other.keys_url), clock=clock, recorder=recorder) as verifier:
        for _ in range(2):
            for token in bad.values():
                with pytest.raises(TokenError):
                    await verifier.verify(token)
            clock.advance(10)
        codes = set()
        for token in bad.values():
            with pytest.raises(TokenError) as refused:
                await verifier.verify(token)
            codes.add(refused.value.code)
    assert {INVALID, EXPIRED} == codes
    assert [] == evil.asked
    assert len(issuer.asked) <= 3


@asynccontextmanager
async def node(issuer: Issuer, other: Issuer) -> AsyncIterator[Serving]:
    """Run a node that believes both issuers, by its settings."""
    token = {
        "issuer": ISSUER,
        "jwks_public_endpoint": issuer.keys_url,
        "hmac_secret_key": SECRET.decode(),
        "rsa_public_key": RSA.pem().decode(),
        "issuers": [{"issuer": OTHER_ISSUER, "jwks_public_endpoint": other.keys_url, "algorithms": ["EdDSA"]}],
    }
    async with serving(client={"token": token, "user_connection_limit": 0}) as it:
        yield it


async def connected(url: str, token: str) -> int:
    """Connect with a token as an SDK does: return 0, the code of the error, or that of the close."""
    link = await RawSocket.websocket(url, "/connection/websocket")
    try:
        await link.send(masked(TEXT, json.dumps({"id": 1, "connect": {"token": token}}).encode()))
        frame = await link.frame()
    finally:
        link.close()
    return frame.code if frame.opcode == CLOSE else json.loads(frame.payload).get("error", {}).get("code", 0)


async def shaken(url: str, token: str) -> int:
    """Shake hands with a token in the header; return the status."""
    link = await RawSocket.connect(url)
    try:
        await link.send(upgrade("/ws", f"Authorization: Bearer {token}"))
        return (await link.head()).status
    finally:
        link.close()


async def test_no_bad_token_passes_a_node(issuer: Issuer, other: Issuer, evil: Issuer) -> None:
    """Over a socket none connects, in the connect command or in the header, and the node asks nobody for its sake."""
    forger = Forger(time.time(), evil.url)
    bad = {**forger.bad(), **forger.misplaced()}
    async with node(issuer, other) as it:
        assert {0} == {await connected(it.url, token) for token in forger.good()}
        assert {101} == {await shaken(it.url, token) for token in forger.good()}
        codes = {name: await connected(it.url, token) for name, token in bad.items()}
        assert [] == [name for name, code in codes.items() if code not in (INVALID, EXPIRED, CANNOT_TELL, TOO_BIG)]
        assert {"100 KiB"} == {name for name, code in codes.items() if code == TOO_BIG}
        fitting = {name: token for name, token in bad.items() if token.isascii() and not set(token) & set(" \n\r\0")}
        statuses = {name: await shaken(it.url, token) for name, token in fitting.items()}
        assert [] == [name for name, status in statuses.items() if status not in (401, 431, 503)]
        assert {0} == {await connected(it.url, token) for token in forger.good()}
    assert [] == evil.asked
    assert [KEYS] * 2 == [path for it in (issuer, other) for path, _ in it.asked]


async def test_a_token_for_nothing_is_worth_nothing(issuer: Issuer, other: Issuer) -> None:
    """No token at all, and an empty one, are not let in either."""
    async with node(issuer, other) as it:
        assert 0 != await connected(it.url, "")
        assert 401 == await shaken(it.url, ED.token({}))
