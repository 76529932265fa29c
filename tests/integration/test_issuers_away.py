"""Issuers over HTTP: discovery, how often they are asked, and what happens while they are away and afterwards."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import httpx
import pytest
from structlog.testing import capture_logs

from gateway.errors import TokenError
from gateway.tokens import Rules, TokenVerifier, Trust, fetching
from gateway.types import Identity
from tests.support.clock import ManualClock
from tests.support.issuing import DISCOVERY, KEYS, Issuer, issuing
from tests.support.recorder import MemoryRecorder
from tests.unit.tokens.signing import Signer, good

OLD = Signer.make("RS256", "old")
NEW = Signer.make("ES256", "new")


@pytest.fixture(name="issuer")
async def _issuer() -> AsyncIterator[Issuer]:
    async with issuing(OLD) as issuer:
        yield issuer


@pytest.fixture(name="verifier")
async def _verifier(issuer: Issuer, clock: ManualClock, recorder: MemoryRecorder) -> AsyncIterator[TokenVerifier]:
    trust = Trust(rules=Rules(issuer=issuer.url), discover=True)
    async with TokenVerifier(trust, clock=clock, recorder=recorder, chance=lambda: 0.0) as verifier:
        yield verifier


def token(issuer: Issuer, signer: Signer = OLD, **claims: object) -> str:
    """Sign a token of this issuer, good for a day."""
    return signer.token(good(iss=issuer.url, exp=1_800_086_400, **claims))


async def code(verifier: TokenVerifier, presented: str) -> int:
    """Return 0 for a token that is accepted, else the code of its refusal."""
    try:
        await verifier.verify(presented)
    except TokenError as refusal:
        return refusal.code
    return 0


async def settled(verifier: TokenVerifier) -> None:
    """Wait for the fetches under way."""
    for jwks in verifier._fetched:
        if jwks._flight is not None:
            await jwks.fetch()


def paths(issuer: Issuer) -> list[str]:
    """Return what was asked for, in order."""
    return [path for path, _ in issuer.asked]


async def test_keys_are_where_the_document_says(verifier: TokenVerifier, issuer: Issuer, clock: ManualClock) -> None:
    """The document is asked for when a key is first needed, then the keys; both no more often than needed."""
    assert "alice" == (await verifier.verify(token(issuer))).user
    assert [DISCOVERY, KEYS] == paths(issuer)
    clock.advance(301)
    assert isinstance(verifier.known(token(issuer), clock.wall()), Identity)
    await settled(verifier)
    assert [DISCOVERY, KEYS, KEYS] == paths(issuer)
    clock.advance(3600)
    assert 0 == await code(verifier, token(issuer, jti="t2"))
    assert [DISCOVERY, KEYS] == paths(issuer)[3:]


async def test_a_hundred_at_once_are_one_document(verifier: TokenVerifier, issuer: Issuer) -> None:
    """All who wait for keys wait for the same two requests."""
    assert [0] * 100 == await asyncio.gather(*(code(verifier, token(issuer, jti=f"t{n}")) for n in range(100)))
    assert [DISCOVERY, KEYS] == paths(issuer)


async def test_the_issuer_must_be_named(verifier: TokenVerifier, issuer: Issuer) -> None:
    """A token of its keys that names another issuer, or none, is refused."""
    for iss in (None, "", f"{issuer.url}/", "https://elsewhere.example"):
        assert 3500 == await code(verifier, OLD.token(good(iss=iss)))
    assert 0 == await code(verifier, token(issuer))


BAD: dict[str, Callable[[Issuer], None]] = {
    "another issuer's": lambda it: it.say(DISCOVERY, {"issuer": "https://evil.example", "jwks_uri": it.keys_url}),
    "a redirect": lambda it: it.say(DISCOVERY, {}, f"Location: {it.url}/moved", status="302 Found"),
    "no document": lambda it: it.say(DISCOVERY, ["sign in"]),
    "too long": lambda it: it.say(DISCOVERY, {"issuer": it.url, "jwks_uri": it.keys_url, "x": "x" * 65536}),
    "not there": lambda it: it.say(DISCOVERY, {}, status="404 Not Found"),
    "a redirect of the keys": lambda it: it.say(KEYS, {}, f"Location: {it.url}/moved", status="301 Moved"),
}


@pytest.mark.parametrize("spoil", BAD.values(), ids=BAD.keys())
async def test_bad_documents_are_no_keys(
    verifier: TokenVerifier, issuer: Issuer, clock: ManualClock, spoil: Callable[[Issuer], None]
) -> None:
    """Whatever stands there instead: "cannot tell", nobody else is asked, and once it is mended all is well."""
    issuer.say("/moved", {"keys": [NEW.jwk()]})
    spoil(issuer)
    assert [100, 100] == [await code(verifier, token(issuer)) for _ in range(2)]
    assert 1 == len(issuer.asked_for(DISCOVERY))
    assert [] == issuer.asked_for("/moved")
    issuer.publish(OLD)
    clock.advance(1)
    assert 0 == await code(verifier, token(issuer))


async def test_a_document_that_cannot_be_had_again_still_leads(
    verifier: TokenVerifier, issuer: Issuer, clock: ManualClock
) -> None:
    """The address that was found once is used while the document is away or spoilt, and that is logged."""
    assert 0 == await code(verifier, token(issuer))
    issuer.say(DISCOVERY, {}, status="503 Service Unavailable")
    issuer.say(KEYS, {"keys": [NEW.jwk()]})
    clock.advance(3600)
    with capture_logs() as logs:
        assert 0 == await code(verifier, token(issuer, NEW))
    assert ["oidc.discovery_failed", "jwks.keys_changed"] == [it["event"] for it in logs][:2]
    assert issuer.url == logs[0]["issuer"]


async def test_keys_that_moved_are_found(verifier: TokenVerifier, issuer: Issuer, clock: ManualClock) -> None:
    """When there are no keys any more where the document said, it is read again before the next try."""
    assert 0 == await code(verifier, token(issuer))
    issuer.say(KEYS, {}, status="404 Not Found")
    issuer.say("/new-keys", {"keys": [NEW.jwk()]})
    issuer.say(DISCOVERY, {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/new-keys"})
    clock.advance(10)
    assert 100 == await code(verifier, token(issuer, NEW))
    clock.advance(10)
    assert 0 == await code(verifier, token(issuer, NEW))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("Cache-Control: max-age=60", 60),
        ("Cache-Control: public, Max-Age = 60, must-revalidate", 60),
        ('Cache-Control: private,max-age="60"', 60),
        ("Cache-Control: max-age=0", 5),
        ("Cache-Control: max-age=1", 5),
        ("Cache-Control: max-age=86400", 300),
        ("Cache-Control: max-age=soon", 300),
        ("Cache-Control: s-maxage=60", 300),
        ("Cache-Control: no-store", 300),
        ("X-Nothing: 1", 300),
    ],
)
async def test_an_issuer_says_how_long_his_keys_are_fresh(
    verifier: TokenVerifier, issuer: Issuer, clock: ManualClock, header: str, seconds: int
) -> None:
    """`max-age` of the answer is when keys are refreshed, within 5 to 300 s; the document's does not count."""
    issuer.publish(OLD, headers=(header,))
    assert 0 == await code(verifier, token(issuer))
    clock.advance(seconds - 0.5)
    verifier.known(token(issuer), clock.wall())
    await settled(verifier)
    assert 1 == len(issuer.asked_for(KEYS))
    clock.advance(0.5)
    verifier.known(token(issuer), clock.wall())
    await settled(verifier)
    assert 2 == len(issuer.asked_for(KEYS))


@pytest.mark.parametrize(("chance", "refreshed"), [(0.0, 300.0), (1.0, 225.0)])
async def test_refreshes_are_spread(
    issuer: Issuer, clock: ManualClock, recorder: MemoryRecorder, chance: float, refreshed: float
) -> None:
    """Nodes that fetched at one time refresh at different ones, up to a quarter earlier."""
    trust = Trust(jwks_url=issuer.keys_url)
    async with TokenVerifier(trust, clock=clock, recorder=recorder, chance=lambda: chance) as verifier:
        await verifier.verify(token(issuer))
        for asked, at in ((1, refreshed - 1), (2, 1)):
            clock.advance(at)
            verifier.known(token(issuer), clock.wall())
            await settled(verifier)
            assert asked == len(issuer.asked)


async def test_without_keys_tries_get_rarer(issuer: Issuer, clock: ManualClock, recorder: MemoryRecorder) -> None:
    """A node that never had a key asks after 1, 2, 4, 4 ... seconds, each longer by up to a half."""
    issuer.away = True
    trust = Trust(jwks_url=issuer.keys_url)
    async with TokenVerifier(trust, clock=clock, recorder=recorder, chance=lambda: 1.0) as verifier:
        tries = []
        for tenth in range(240):
            before = len(issuer.asked)
            assert 100 == await code(verifier, token(issuer))
            tries += [tenth / 10] * (len(issuer.asked) - before)
            clock.advance(0.1)
    pauses = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert pytest.approx([1.5, 3.0, 6.0, 6.0, 6.0], abs=0.2) == pauses[:5]


async def test_fifty_nodes_do_not_come_back_as_one(
    issuer: Issuer, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nodes that all fetched in one second, and lost their issuer, ask once each after its return, over seconds."""
    monkeypatch.setattr(fetching, "FETCH_SECONDS", 30.0)  # a busy machine is not what is tested
    chance = random.Random(7)
    trust, nodes = Trust(jwks_url=issuer.keys_url), []
    presented = token(issuer)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=30.0))
        for _ in range(50):
            made = TokenVerifier(trust, clock=clock, recorder=MemoryRecorder(), http=http, chance=chance.random)
            nodes.append(await stack.enter_async_context(made))
        await asyncio.gather(*(it.verify(presented) for it in nodes))
        by_second: Counter[int] = Counter()
        for second in range(220, 322):
            clock.advance(220 if second == 220 else 1)
            issuer.away = second < 305
            before = len(issuer.asked)
            assert all(isinstance(it.known(presented, clock.wall()), Identity) for it in nodes)
            await asyncio.gather(*(settled(it) for it in nodes))
            by_second[second] = len(issuer.asked) - before
    back = {second: count for second, count in by_second.items() if second >= 305}
    assert 50 == sum(back.values())
    assert max(back.values()) <= 13
    assert max(by_second.values()) <= 13
    assert 8 <= max(second for second, count in back.items() if count) - 305 <= 15
