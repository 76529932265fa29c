"""What the gateway must be told arrives: at once, after it was away, after we were, and from several of us."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import select
from structlog.testing import capture_logs

from auth_service.audit import masked
from auth_service.errors import OperatorError
from auth_service.models import Closure
from auth_service.telling import closures as module
from auth_service.telling.closures import Kind, order, pause
from auth_service.telling.gateways import GatewayFault, Gateways
from tests.auth_service.conftest import PATIENCE
from tests.support.clock import ManualClock
from tests.support.engines import eventually
from tests.support.taker import KEY, Taker, taking
from tests.support.teller import LIFE, Mute, Sessions, Teller, at, left, opened


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let orders take their time: this machine may stand still for longer than one may take, or the end."""
    monkeypatch.setattr("auth_service.telling.gateways.TIMEOUT_SECONDS", PATIENCE)
    monkeypatch.setattr(module, "LAST_SECONDS", PATIENCE)


@pytest.fixture(name="sessions")
async def _sessions(tmp_path: Path) -> AsyncIterator[Sessions]:
    engine, sessions = await opened(f"sqlite+aiosqlite:///{tmp_path}/auth.db")
    yield sessions
    await engine.dispose()


@pytest.fixture(name="taker")
async def _taker() -> AsyncIterator[Taker]:
    async with taking() as taker:
        yield taker


# --- the schedule


def test_tries_come_soon_at_first_and_seldom_later() -> None:
    """0.2 s doubles to 5 s; after a minute it is 30 s, however many tries there were."""
    assert [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0] == [pytest.approx(pause(tries, 1.0)) for tries in range(1, 8)]
    assert 5.0 == pause(10_000, 59.9)
    assert 30.0 == pause(1, 60.0) == pause(10_000, 600.0)


# --- one gateway


@pytest.mark.parametrize("kind", ["sid", "kid", "user"])
async def test_an_order_says_whom_and_until_when(
    sessions: Sessions, clock: ManualClock, taker: Taker, kind: Kind
) -> None:
    """The gateway gets the value under its kind, an id, and the end of the tokens; of a user, from when on."""
    teller = Teller(sessions, at(taker.url), clock)
    async with teller.gateways.connected():
        made = clock.wall()
        await teller.enter("x", kind)
        clock.advance(0.7)
        with capture_logs() as logs:
            await teller.closures.deliver()
    (heard,) = taker.orders
    issued = {"issued_before": int(made)} if kind == "user" else {}
    assert {kind: "x", "id": heard["id"], "expire_at": int(made + LIFE), **issued} == heard
    assert 36 == len(heard["id"])
    assert 0 == await left(sessions)
    assert 1.0 == teller.count("told")
    assert 0.7 == pytest.approx(teller.metrics.registry.get_sample_value("auth_closure_seconds_sum"))
    (event,) = [it for it in logs if it["event"] == "auth.audit"]
    hashed = {"user": masked("x") if kind == "user" else "", "session": masked("x") if kind == "sid" else ""}
    assert {"action": "gateway_told", "result": "ok", **hashed}.items() <= event.items()


async def test_what_is_rolled_back_is_never_told(sessions: Sessions, clock: ManualClock, taker: Taker) -> None:
    """The row is part of the change: without it there is none."""
    teller = Teller(sessions, at(taker.url), clock)
    async with sessions() as session:
        teller.closures.enter(session, "sid", "x", clock.wall() + LIFE)
        await session.flush()
        await session.rollback()
    async with teller.gateways.connected():
        await teller.run(10)
    assert 0 == taker.calls


async def test_a_gateway_that_was_away_for_a_minute(sessions: Sessions, clock: ManualClock, taker: Taker) -> None:
    """All it missed is told within a try's pause of its return, though we were restarted meanwhile; logged once."""
    await taker.stop()
    before = Teller(sessions, at(taker.url), clock)
    with capture_logs() as logs:
        async with before.gateways.connected():
            for number in range(20):
                await before.enter(f"s{number}")
            await before.run(30)
        after = Teller(sessions, at(taker.url), clock)
        async with after.gateways.connected():
            await after.run(30)
            assert 20 == after.closures.pending
            await taker.start()
            await after.run(module.PATIENT_PAUSE)
    assert {f"s{number}" for number in range(20)} == {order["sid"] for order in taker.orders}
    assert 20 == len(taker.orders)
    assert (0, 0, 20.0) == (after.closures.pending, await left(sessions), after.count("told"))
    assert before.count("failed") <= module.AT_ONCE + 6 + 30 / module.LONGEST_PAUSE, "one is tried for all"
    told = [it["event"] for it in logs if it["event"].startswith("closures.")]
    assert ["closures.gateway_away", "closures.gateway_away", "closures.gateway_back"] == told


async def test_the_return_of_the_gateway_hurries_all(sessions: Sessions, clock: ManualClock, taker: Taker) -> None:
    """One new order that arrives takes along all that wait for a try in half a minute."""
    await taker.stop()
    teller = Teller(sessions, at(taker.url), clock)
    async with teller.gateways.connected():
        for number in range(12):
            await teller.enter(f"s{number}")
        await teller.run(90)
        await taker.start()
        await teller.enter("new")
        await teller.run(0)
    assert 13 == len(taker.orders)
    assert "new" == taker.orders[0]["sid"]


async def test_what_has_ended_by_itself_is_given_up(sessions: Sessions, clock: ManualClock, taker: Taker) -> None:
    """When the last token has expired nobody needs to be told: counted, logged, audited, gone."""
    await taker.stop()
    teller = Teller(sessions, at(taker.url), clock)
    async with teller.gateways.connected():
        await teller.enter("x")
        await teller.enter("y", life=LIFE + 60)
        await teller.run(LIFE - 1)
        assert 2 == await left(sessions)
        with capture_logs() as logs:
            await teller.run(2)
    assert (1, 1.0) == (await left(sessions), teller.count("given_up"))
    assert ["closures.given_up", "auth.audit"] == [it["event"] for it in logs]
    assert ("gateway_given_up", "failed") == (logs[1]["action"], logs[1]["result"])


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((200, {"error": {"code": 100, "message": "internal server error"}}), "error 100"),
        ((200, ["result"]), "error none of its answers"),
        ((200, {"error": "eyJ secret"}), "error none of its answers"),
        ((200, b"<html>"), "error none of its answers"),
        ((404, {}), "status 404"),
        ((302, {"result": {}}), "status 302"),
        (None, "no answer in 0.05 s"),
    ],
)
async def test_only_a_result_is_a_yes(
    sessions: Sessions, taker: Taker, monkeypatch: pytest.MonkeyPatch, answer: tuple[int, Any] | None, why: str
) -> None:
    """Errors, strange answers, redirects and silence leave the order where it is; nothing they say is logged."""
    taker.answer = answer
    teller = Teller(sessions, at(taker.url), ManualClock())
    async with teller.gateways.connected():
        if answer is None:
            monkeypatch.setattr("auth_service.telling.gateways.TIMEOUT_SECONDS", 0.05)
        await teller.enter("x")
        with capture_logs() as logs:
            await teller.closures.deliver()
        assert ["closures.gateway_away"] == [it["event"] for it in logs]
        assert f"127.0.0.1:{taker.port}: {why}" == logs[0]["why"]
        monkeypatch.setattr("auth_service.telling.gateways.TIMEOUT_SECONDS", PATIENCE)
        taker.answer = (200, {"result": {}})
        await teller.run(1)
    assert 0 == await left(sessions)


async def test_a_refused_order_does_not_hold_up_the_others(
    sessions: Sessions, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that the gateway never takes is tried by its schedule, and the others pass it."""
    gateway = Mute()
    refused = gateway.revoke

    async def choosy(body: Mapping[str, Any]) -> None:
        await refused(body)
        if body["sid"] == "bad":
            raise GatewayFault("no")

    monkeypatch.setattr(gateway, "revoke", choosy)
    teller = Teller(sessions, gateway, clock)
    await teller.enter("bad")
    for number in range(30):
        await teller.enter(f"s{number}")
    await teller.run(1)
    assert (1, 30.0) == (await left(sessions), teller.count("told"))


# --- several


async def test_any_of_several_urls_will_do(sessions: Sessions, clock: ManualClock, taker: Taker) -> None:
    """The first that takes it is enough, and is asked first from then on."""
    async with taking() as broken, taking() as other:
        broken.answer = (500, {})
        teller = Teller(sessions, at(broken.url, taker.url, other.url + "/"), clock)
        async with teller.gateways.connected():
            await teller.enter("a")
            await teller.closures.deliver()
            await teller.enter("b")
            await teller.closures.deliver()
            assert (["a", "b"], 1, 0) == ([it["sid"] for it in taker.orders], broken.calls, other.calls)
            taker.answer = (503, {})
            await teller.enter("c")
            await teller.closures.deliver()
            assert ["c"] == [it["sid"] for it in other.orders]


async def test_processes_that_share_the_table_share_the_work(
    sessions: Sessions, clock: ManualClock, taker: Taker
) -> None:
    """Three at once on 60 rows: each row is told by one of them."""
    tellers = [Teller(sessions, at(taker.url), clock) for _ in range(3)]
    async with AsyncExitStack() as stack:
        for teller in tellers:
            await stack.enter_async_context(teller.gateways.connected())
        for number in range(60):
            await tellers[0].enter(f"s{number}")
        await asyncio.gather(*(teller.closures.deliver() for teller in tellers))
    assert 60 == len(taker.orders) == len({order["sid"] for order in taker.orders})
    assert 60.0 == sum(teller.count("told") for teller in tellers)


async def test_the_second_report_of_an_order_counts_once(
    sessions: Sessions, clock: ManualClock, taker: Taker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that stalls while it tells is overtaken by another; the order has one id, and is counted once."""
    slow, quick = Teller(sessions, Mute(), clock), Teller(sessions, at(taker.url), clock)
    held = asyncio.Event()

    async def stalled(_: Mapping[str, Any]) -> None:
        await held.wait()

    monkeypatch.setattr(slow.gateways, "revoke", stalled)
    await slow.enter("x")
    async with quick.gateways.connected():
        telling = asyncio.create_task(slow.closures.deliver())
        await eventually(lambda: _claimed(sessions))
        clock.advance(1)
        await quick.closures.deliver()
        held.set()
        await telling
    assert 1 == len(taker.orders)
    assert (1.0, 0.0) == (quick.count("told"), slow.count("told"))


async def _claimed(sessions: Sessions) -> bool:
    async with sessions() as session:
        return bool(await session.scalar(select(Closure.tries)))


# --- in the background


async def test_a_commit_is_told_at_once(sessions: Sessions, taker: Taker) -> None:
    """Waking is enough; no look at the table is waited for."""
    teller = Teller(sessions, at(taker.url), ManualClock())
    async with teller.closures.running():
        await teller.enter("a")
        teller.closures.wake()
        await eventually(_heard(taker, 1))
        await teller.enter("b")
        teller.closures.wake()
        await eventually(_heard(taker, 2))
    assert ["a", "b"] == [it["sid"] for it in taker.orders]


async def test_what_another_process_enters_is_seen(sessions: Sessions, taker: Taker, clock: ManualClock) -> None:
    """The command line adds a row and ends; the service finds it."""
    teller = Teller(sessions, at(taker.url), clock, poll_seconds=0.01)
    async with teller.closures.running():
        async with sessions.begin() as session:
            session.add(order("kid", "k1", until=clock.wall() + LIFE, now=clock.wall()))
        await eventually(_heard(taker, 1))
    assert "k1" == taker.orders[0]["kid"]


async def test_an_end_tells_what_is_due(sessions: Sessions, taker: Taker, clock: ManualClock) -> None:
    """A log-out right before the process ends still arrives."""
    teller = Teller(sessions, at(taker.url), clock)
    async with teller.closures.running():
        await teller.enter("x")
    assert 1 == len(taker.orders)


async def test_an_end_does_not_wait_for_a_gateway_that_stalls(
    sessions: Sessions, taker: Taker, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes after its time, and the row stays for the next process."""
    monkeypatch.setattr(module, "LAST_SECONDS", 0.05)
    taker.answer = None
    teller = Teller(sessions, at(taker.url), clock)
    async with asyncio.timeout(PATIENCE / 2), teller.closures.running():
        await teller.enter("x")
        teller.closures.wake()
        await eventually(_heard_calls(taker))
    assert 1 == await left(sessions)


async def test_the_delivery_outlives_a_failing_database(
    sessions: Sessions, taker: Taker, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong in one pass is logged with its trace, and the next one comes."""
    teller = Teller(sessions, at(taker.url), clock, poll_seconds=0.01)
    monkeypatch.setattr(teller.closures, "_sessions", None)
    with capture_logs() as logs:
        async with teller.closures.running():
            await eventually(_failed(logs))
            monkeypatch.setattr(teller.closures, "_sessions", sessions)
            await teller.enter("x")
            await eventually(_heard(taker, 1))


async def test_without_a_gateway_rows_end_by_themselves(sessions: Sessions, clock: ManualClock) -> None:
    """It is said at the start; nothing is tried, and nothing is given up that nobody wanted."""
    teller = Teller(sessions, Gateways((), None), clock)
    with capture_logs() as logs:
        async with teller.closures.running():
            await teller.enter("x")
        await teller.run(LIFE + 1)
    assert ["closures.no_gateway"] == [it["event"] for it in logs]
    assert (0, 0.0) == (await left(sessions), teller.count("given_up"))


# --- the key


@pytest.mark.parametrize("key", [None, SecretStr("")])
def test_urls_need_a_key(key: SecretStr | None) -> None:
    """The operator hears of it at the start."""
    with pytest.raises(OperatorError, match="AUTH_GATEWAY_API_KEY"):
        Gateways(["http://127.0.0.1:1"], key)


def test_a_key_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The operator hears which."""
    with pytest.raises(OperatorError, match=r"absent cannot be read: No such file"):
        Gateways(["http://127.0.0.1:1"], tmp_path / "absent")


async def test_a_key_file_may_be_replaced(sessions: Sessions, clock: ManualClock, taker: Taker, tmp_path: Path) -> None:
    """It is read for each order: wrong, unreadable, right."""
    file = tmp_path / "key"
    file.write_text("old\n")
    teller = Teller(sessions, Gateways([taker.url], file), clock)
    async with teller.gateways.connected():
        await teller.enter("x")
        await teller.closures.deliver()
        file.write_bytes(b"\xff")
        await teller.run(1)
        assert (1, []) == (taker.calls, taker.orders)
        file.write_text(f"{KEY}\n")
        await teller.run(1)
    assert 1 == len(taker.orders)


def _heard(taker: Taker, number: int) -> Callable[[], Any]:
    async def heard() -> bool:
        return len(taker.orders) >= number

    return heard


def _heard_calls(taker: Taker) -> Callable[[], Any]:
    async def heard() -> bool:
        return taker.calls > 0

    return heard


def _failed(logs: Sequence[Mapping[str, Any]]) -> Callable[[], Any]:
    async def failed() -> bool:
        return any(it["event"] == "closures.failed" for it in logs)

    return failed
