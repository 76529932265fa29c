"""The verifier against an issuer's JWKS endpoint: a real HTTP server on a real socket."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from structlog.testing import capture_logs

from gateway.errors import TokenError
from gateway.tokens import TokenVerifier, Trust, fetching, jwks
from gateway.tokens.jwks import Jwks
from gateway.types import Identity
from tests.support.clock import ManualClock
from tests.support.recorder import MemoryRecorder
from tests.unit.tokens.signing import SECRET, Signer, good, join

OLD = Signer.make("EdDSA", "old")
NEW = Signer.make("EdDSA", "new")
RSA = Signer.make("RS256", "rsa")
EC = Signer.make("ES256", "ec")

DEADLINE = 10.0  # seconds for the verifier to ask, or to answer


class Issuer:
    """Answers every request with the same bytes, when its gate is open."""

    def __init__(self) -> None:
        self.port = 0
        self.hits = 0
        self.open = asyncio.Event()
        self.open.set()
        self.asked = asyncio.Event()
        self.answer = b""
        self.publish(OLD)

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://127.0.0.1:{self.port}/jwks.json"

    def publish(self, *signers: Signer) -> None:
        """Answer with these keys."""
        self.say(json.dumps({"keys": [signer.jwk() for signer in signers]}).encode())

    def say(self, body: bytes, status: str = "200 OK", *headers: str) -> None:
        """Answer with this body."""
        head = [f"HTTP/1.1 {status}", "Connection: close", f"Content-Length: {len(body)}", *headers]
        self.answer = "\r\n".join([*head, "", ""]).encode() + body

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.hits += 1
            self.asked.set()
            await self.open.wait()
            writer.write(self.answer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # the client gave up: some tests are about that
        finally:
            writer.close()


@asynccontextmanager
async def listening() -> AsyncIterator[Issuer]:
    """Run an issuer on a free port."""
    issuer = Issuer()
    server = await asyncio.start_server(issuer.serve, "127.0.0.1", 0)
    async with server:
        issuer.port = server.sockets[0].getsockname()[1]
        yield issuer
        issuer.open.set()


@pytest.fixture(name="issuer")
async def _issuer() -> AsyncIterator[Issuer]:
    async with listening() as issuer:
        yield issuer


@pytest.fixture(name="verifier")
async def _verifier(issuer: Issuer, clock: ManualClock, recorder: MemoryRecorder) -> AsyncIterator[TokenVerifier]:
    trust = Trust(jwks_url=issuer.url, hmac_secret=SECRET)
    async with TokenVerifier(trust, clock=clock, recorder=recorder, chance=lambda: 0.0) as verifier:
        yield verifier


async def refusal(verifier: TokenVerifier, token: str) -> int:
    """Return the code a token is refused with."""
    with pytest.raises(TokenError) as caught:
        await verifier.verify(token)
    return caught.value.code


def keys_of(verifier: TokenVerifier) -> Jwks:
    """Return the only key set of a verifier."""
    (keys,) = verifier._fetched
    return keys


async def settled(verifier: TokenVerifier) -> None:
    """Wait for the fetch that is under way."""
    keys = keys_of(verifier)
    assert keys._flight is not None
    await keys.fetch()


async def test_keys_are_fetched_when_first_needed(verifier: TokenVerifier, issuer: Issuer, clock: ManualClock) -> None:
    """Before the first fetch `known` cannot tell; after it, it can, for every kind of key."""
    issuer.publish(OLD, RSA, EC)
    assert verifier.known(OLD.token(good()), clock.wall()) is None
    assert verifier.jwks_age(clock.monotonic()) is None
    for signer in (OLD, RSA, EC):
        assert "alice" == (await verifier.verify(signer.token(good()))).user
        assert isinstance(verifier.known(signer.token(good(jti="other")), clock.wall()), Identity)
    assert 1 == issuer.hits
    clock.advance(7)
    assert 7.0 == verifier.jwks_age(clock.monotonic())


async def test_a_hundred_at_once_are_one_fetch(
    verifier: TokenVerifier, issuer: Issuer, recorder: MemoryRecorder
) -> None:
    """All who wait for keys wait for the same request."""
    tokens = [OLD.token(good(jti=f"t{n}")) for n in range(100)]
    found = await asyncio.gather(*(verifier.verify(token) for token in tokens))
    assert [f"t{n}" for n in range(100)] == [identity.token_id for identity in found]
    assert 1 == issuer.hits
    assert {("jwks_refreshes", "ok"): 1} == recorder.counts


async def test_cancelling_one_harms_nobody(verifier: TokenVerifier, issuer: Issuer, clock: ManualClock) -> None:
    """The fetch belongs to no one who waits for it: it goes on when the first, and even when all, are gone."""
    issuer.open.clear()
    first = asyncio.create_task(verifier.verify(OLD.token(good())))
    second = asyncio.create_task(verifier.verify(OLD.token(good())))
    await asyncio.wait_for(issuer.asked.wait(), DEADLINE)
    first.cancel()
    await asyncio.wait({first})
    assert first.cancelled()
    assert not second.done()
    second.cancel()
    await asyncio.wait({second})
    issuer.open.set()
    await settled(verifier)
    assert isinstance(verifier.known(OLD.token(good()), clock.wall()), Identity)
    assert 1 == issuer.hits


async def test_made_up_key_ids_do_not_become_requests(
    verifier: TokenVerifier, issuer: Issuer, clock: ManualClock, recorder: MemoryRecorder
) -> None:
    """A thousand unknown ids a second: there is one fetch in ten seconds; the others are told "cannot tell"."""
    await verifier.verify(OLD.token(good()))
    for second in range(20):
        for n in range(1000):
            token = join({"alg": "EdDSA", "kid": f"made-up-{second}-{n}"}, {}, b"s" * 64)
            asked = second == 10 and n == 0
            assert (3500 if asked else 100) == await refusal(verifier, token)
        clock.advance(1)
    assert 2 == issuer.hits
    assert 1 == recorder.counts["auth_failures", "invalid"]
    assert 19_999 == recorder.counts["auth_failures", "unavailable"]


async def test_an_unknown_id_is_refused_for_good_once_asked_for(
    verifier: TokenVerifier, issuer: Issuer, clock: ManualClock
) -> None:
    """A key may be new since the last fetch, so its token is refused for now; after a fetch without it for good."""
    await verifier.verify(OLD.token(good()))
    unknown = NEW.token(good())
    assert [100, 100] == [await refusal(verifier, unknown) for _ in range(2)]
    clock.advance(10)
    assert [3500, 3500] == [await refusal(verifier, unknown) for _ in range(2)]
    issuer.publish(OLD, NEW)
    clock.advance(10)
    assert "alice" == (await verifier.verify(unknown)).user
    assert 3 == issuer.hits


async def test_a_key_that_is_new_a_moment_after_a_fetch_is_found(
    verifier: TokenVerifier, issuer: Issuer, clock: ManualClock
) -> None:
    """An issuer that signs with a new key at once: its tokens are refused for now, never for good, then accepted."""
    await verifier.verify(OLD.token(good()))
    issuer.publish(OLD, NEW)
    fresh = NEW.token(good())
    codes = []
    for _ in range(10):
        codes.append(await refusal(verifier, fresh))
        clock.advance(1)
    assert [100] * 10 == codes
    await verifier.verify(fresh)


async def test_a_flood_of_ids_is_not_remembered(verifier: TokenVerifier) -> None:
    """However many unknown ids are asked for, a bounded number is kept."""
    await verifier.verify(OLD.token(good()))
    for n in range(1200):
        await refusal(verifier, OLD.token(good(), kid=f"made-up-{n}"))
    assert jwks.UNKNOWN_IDS == len(keys_of(verifier)._asked)


async def test_a_new_key_is_found_and_an_old_one_forgotten(
    verifier: TokenVerifier, issuer: Issuer, clock: ManualClock
) -> None:
    """An unknown id leads to a fetch; tokens of a key that is gone are refused, those in the cache too."""
    old = OLD.token(good())
    await verifier.verify(old)
    clock.advance(10)
    issuer.publish(NEW)
    assert verifier.known(NEW.token(good()), clock.wall()) is None
    await verifier.verify(NEW.token(good()))
    assert 3500 == await refusal(verifier, old)
    assert 2 == issuer.hits


async def test_a_key_replaced_under_its_id_is_forgotten(
    verifier: TokenVerifier, issuer: Issuer, clock: ManualClock
) -> None:
    """The id staying the same does not keep what another key has vouched for."""
    old = OLD.token(good())
    await verifier.verify(old)
    replaced = Signer.make("EdDSA", "old")
    issuer.publish(replaced)
    clock.advance(301)
    verifier.known(old, clock.wall())
    await settled(verifier)
    assert 3500 == await refusal(verifier, old)
    await verifier.verify(replaced.token(good()))


async def test_growing_old_is_mended_beside_the_work(
    verifier: TokenVerifier, issuer: Issuer, clock: ManualClock
) -> None:
    """After five minutes any token, even one from the cache, sets off a refresh that it does not wait for."""
    token = OLD.token(good())
    await verifier.verify(token)
    clock.advance(299)
    assert isinstance(verifier.known(token, clock.wall()), Identity)
    assert 1 == issuer.hits
    clock.advance(2)
    assert isinstance(verifier.known(token, clock.wall()), Identity)
    await settled(verifier)
    assert 2 == issuer.hits
    assert 0.0 == verifier.jwks_age(clock.monotonic())


async def test_old_keys_are_used_only_after_a_try(verifier: TokenVerifier, issuer: Issuer, clock: ManualClock) -> None:
    """Keys not refreshed for ten minutes, for want of traffic, vouch for nobody before the issuer was asked again."""
    await verifier.verify(OLD.token(good()))
    issuer.publish(NEW)
    clock.advance(601)
    late = good(exp=clock.wall() + 600, jti="late")
    assert verifier.known(OLD.token(late), clock.wall()) is None
    assert 3500 == await refusal(verifier, OLD.token(late))


async def test_known_keys_serve_for_an_hour_without_their_issuer(
    verifier: TokenVerifier, issuer: Issuer, clock: ManualClock, recorder: MemoryRecorder
) -> None:
    """While the issuer is away its keys go on for an hour, then nothing of it is trusted, and at its return all is."""
    await verifier.verify(OLD.token(good()))
    issuer.say(b"", "503 Service Unavailable")
    lasting = OLD.token(good(exp=None, jti="lasting"))
    for _ in range(59):
        clock.advance(60)
        await verifier.verify(OLD.token(good(exp=clock.wall() + 60)))
        await verifier.verify(lasting)
    assert 3540.0 == verifier.jwks_age(clock.monotonic())
    clock.advance(61)
    assert 100 == await refusal(verifier, OLD.token(good(exp=clock.wall() + 60)))
    assert 100 == await refusal(verifier, lasting)
    assert 2 == recorder.counts["auth_failures", "unavailable"]
    issuer.publish(OLD)
    clock.advance(4)
    await verifier.verify(lasting)


async def test_failed_tries_count_for_the_pause(verifier: TokenVerifier, issuer: Issuer, clock: ManualClock) -> None:
    """With keys: ten seconds between tries. Without any: one. Meanwhile "cannot tell" is said, and at once."""
    issuer.say(b"", "500 Oops")
    for _ in range(5):
        assert 100 == await refusal(verifier, OLD.token(good()))
    assert 1 == issuer.hits
    clock.advance(1)
    issuer.publish(OLD)
    await verifier.verify(OLD.token(good()))
    clock.advance(10)
    issuer.say(b"", "500 Oops")
    for _ in range(10):
        assert 100 == await refusal(verifier, NEW.token(good()))
        clock.advance(0.9)
    assert 3 == issuer.hits
    clock.advance(1.1)
    issuer.publish(OLD, NEW)
    await verifier.verify(NEW.token(good()))


def _packed(issuer: Issuer) -> None:
    body = issuer.answer.partition(b"\r\n\r\n")[2]
    issuer.say(gzip.compress(body), "200 OK", "Content-Encoding: gzip")


BAD_ANSWERS: dict[str, Callable[[Issuer], None]] = {
    "not found": lambda issuer: issuer.say(issuer.answer.partition(b"\r\n\r\n")[2], "404 Not Found"),
    "elsewhere": lambda issuer: issuer.say(b"", "302 Found", f"Location: {issuer.url}"),
    "no content": lambda issuer: issuer.say(b"", "204 No Content"),
    "a page": lambda issuer: issuer.say(b"<html>sign in</html>"),
    "no keys": lambda issuer: issuer.say(b'{"keys":[]}'),
    "too long": lambda issuer: issuer.say(b" " * 65536 + issuer.answer.partition(b"\r\n\r\n")[2]),
    "packed though not asked for": _packed,
    "cut": lambda issuer: setattr(issuer, "answer", issuer.answer[:-10]),
    "no http": lambda issuer: setattr(issuer, "answer", b"SSH-2.0-OpenSSH\r\n"),
    "nothing": lambda issuer: setattr(issuer, "answer", b""),
    "silence": lambda issuer: issuer.open.clear(),
}


@pytest.mark.parametrize("spoil", BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
async def test_bad_answers_are_no_keys(
    verifier: TokenVerifier,
    issuer: Issuer,
    recorder: MemoryRecorder,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Issuer], None],
) -> None:
    """Whatever an endpoint does instead of answering with keys: "cannot tell", one count, one log line, no wait."""
    monkeypatch.setattr(fetching, "FETCH_SECONDS", 1.0 if spoil is BAD_ANSWERS["silence"] else DEADLINE)
    spoil(issuer)
    with capture_logs() as logs:
        assert 100 == await refusal(verifier, OLD.token(good()))
    assert {("jwks_refreshes", "error"): 1, ("auth_failures", "unavailable"): 1} == recorder.counts
    assert ["jwks.refresh_failed"] == [line["event"] for line in logs]
    assert 1 == issuer.hits


async def test_nobody_listening(clock: ManualClock, recorder: MemoryRecorder) -> None:
    """A refused connection is an issuer that is away, too; and an unknown host, and a URL that httpx refuses."""
    async with listening() as gone:
        pass
    for url in (gone.url, "http://issuer.invalid/jwks.json", "http://127.0.0.1:99999/"):
        async with TokenVerifier(Trust(jwks_url=url), clock=clock, recorder=recorder) as verifier:
            assert 100 == await refusal(verifier, OLD.token(good()))


async def test_the_algorithm_is_the_key_s(verifier: TokenVerifier, issuer: Issuer) -> None:
    """A genuine signature by another algorithm than the JWKS names for the key is refused."""
    issuer.publish(RSA)
    await verifier.verify(RSA.token(good()))
    assert 3500 == await refusal(verifier, Signer("RS512", RSA.material, "rsa").token(good()))
    assert 3500 == await refusal(verifier, Signer("HS256", b"x" * 32, "rsa").token(good()))


async def test_one_key_needs_no_id_but_two_do(verifier: TokenVerifier, issuer: Issuer, clock: ManualClock) -> None:
    """An issuer with a single key may leave `kid` out of its tokens."""
    assert "old" == (await verifier.verify(OLD.token(good(), kid=None))).key_id
    issuer.publish(OLD, NEW)
    clock.advance(301)
    verifier.known(OLD.token(good()), clock.wall())
    await settled(verifier)
    assert 3500 == await refusal(verifier, OLD.token(good(jti="again"), kid=None))


async def test_the_audience_must_be_there(verifier: TokenVerifier) -> None:
    """An issuer signs for many: a token that does not say it is for us is not."""
    assert 3500 == await refusal(verifier, OLD.token(good(aud=None)))


async def test_no_token_makes_us_call_where_it_says(verifier: TokenVerifier, issuer: Issuer) -> None:
    """Addresses and keys in a header are not looked at."""
    await verifier.verify(OLD.token(good()))
    async with listening() as evil:
        evil.publish(NEW)
        for header in ({"jku": evil.url}, {"x5u": evil.url}, {"jwk": NEW.jwk()}):
            assert 3500 == await refusal(verifier, NEW.token(good(), kid="old", **header))
            assert 100 == await refusal(verifier, NEW.token(good(), **header))
        assert 0 == evil.hits
    assert 1 == issuer.hits


async def test_a_shared_secret_needs_no_issuer(verifier: TokenVerifier, issuer: Issuer, clock: ManualClock) -> None:
    """Tokens of the secret, good or bad, are answered at once and never set off a fetch."""
    assert isinstance(verifier.known(Signer("HS256", SECRET, "").token(good()), clock.wall()), Identity)
    assert isinstance(verifier.known(Signer("HS256", b"x" * 32, "").token(good()), clock.wall()), TokenError)
    assert 0 == issuer.hits


async def test_leaving_ends_a_fetch_under_way(issuer: Issuer, clock: ManualClock, recorder: MemoryRecorder) -> None:
    """At the end of the context nothing goes on, and who still waits is told "cannot tell"."""
    issuer.open.clear()
    async with TokenVerifier(Trust(jwks_url=issuer.url), clock=clock, recorder=recorder) as verifier:
        waiting = asyncio.create_task(verifier.verify(OLD.token(good())))
        await asyncio.wait_for(issuer.asked.wait(), DEADLINE)
    with pytest.raises(TokenError, match="100 "):
        await asyncio.wait_for(waiting, DEADLINE)
    assert 100 == await refusal(verifier, OLD.token(good()))
    await keys_of(verifier).fetch()
    assert 1 == issuer.hits


async def test_a_borrowed_client_stays_open(issuer: Issuer, clock: ManualClock, recorder: MemoryRecorder) -> None:
    """Who brings a client closes it."""
    async with httpx.AsyncClient(trust_env=False, timeout=30.0) as http:
        async with TokenVerifier(Trust(jwks_url=issuer.url), clock=clock, recorder=recorder, http=http) as verifier:
            await verifier.verify(OLD.token(good()))
        assert not http.is_closed


async def test_keys_that_grow_old_while_waiting(
    verifier: TokenVerifier, issuer: Issuer, clock: ManualClock, recorder: MemoryRecorder
) -> None:
    """If even after a fetch only another one could tell, the answer is "cannot tell", not a loop."""
    issuer.open.clear()
    waiting = asyncio.create_task(verifier.verify(NEW.token(good())))
    await asyncio.wait_for(issuer.asked.wait(), DEADLINE)
    flight = keys_of(verifier)._flight
    assert flight is not None
    flight.add_done_callback(lambda _: clock.advance(11))
    issuer.open.set()
    with pytest.raises(TokenError, match="100 "):
        await asyncio.wait_for(waiting, DEADLINE)
    assert 1 == recorder.counts["auth_failures", "unavailable"]
