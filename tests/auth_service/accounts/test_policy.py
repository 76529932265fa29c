"""Who may subscribe: patterns, and functions of the operator's own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from auth_service.accounts import policy as policy_module
from auth_service.accounts.policy import Caller, SubscriptionPolicy, allows, by_name, by_pattern
from auth_service.errors import OperatorError, Refused
from tests.auth_service.conftest import PASSWORD, Running, bearer, fault

ALICE = Caller("alice", ("admin",))


@pytest.mark.parametrize(
    ("user", "channel", "expected"),
    [
        ("alice", "$chat:team", True),
        ("alice", "$chat:", True),
        ("alice", "$chat", False),
        ("alice", "$inbox:alice", True),
        ("alice", "$inbox:alicea", False),
        ("bob", "$inbox:alice", False),
        ("alice", "news", True),
        ("alice", "news:x", False),
        ("alice", "", False),
    ],
)
async def test_patterns(user: str, channel: str, expected: bool) -> None:
    """A pattern is a whole name, or a beginning if it ends in a star; the user's name is put in."""
    patterns = by_pattern(("$chat:*", "$inbox:{user}", "news"))
    assert expected is await allows(patterns, Caller(user), channel)


async def _later(caller: Caller, channel: str) -> bool:
    await asyncio.sleep(0)
    return "admin" in caller.roles and channel == "$ops"


@pytest.mark.parametrize(("channel", "expected"), [("$ops", True), ("$other", False)])
async def test_a_policy_may_take_its_time(channel: str, expected: bool) -> None:
    """A coroutine function can ask a database; it is told who asks, with the roles."""
    assert expected is await allows(_later, ALICE, channel)
    assert not await allows(_later, Caller("alice"), channel)


@pytest.mark.parametrize("verdict", ["no", 1, [False], None, object()])
async def test_only_true_lets_in(verdict: Any) -> None:
    """What is merely truthy, such as the text of a refusal, does not."""

    def slip(_caller: Caller, _channel: str) -> Any:
        return verdict

    assert not await allows(slip, ALICE, "$ops")


async def test_a_policy_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is asked to come again; a timeout of the policy's own is its failure like any other."""
    monkeypatch.setattr(policy_module, "POLICY_SECONDS", 0.01)

    async def hangs(_caller: Caller, _channel: str) -> bool:
        await asyncio.Event().wait()
        return True

    async def gives_up(_caller: Caller, _channel: str) -> bool:
        raise TimeoutError("the rights did not come")

    with pytest.raises(Refused, match="503 unavailable"):
        await allows(hangs, ALICE, "$ops")
    with pytest.raises(TimeoutError, match="the rights did not come"):
        await allows(gives_up, ALICE, "$ops")


@pytest.fixture(name="module")
def _module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be a module of an operator, that can be imported."""
    (tmp_path / "our_rights.py").write_text(
        "def members(caller, channel):\n    return channel == '$' + caller.user\n"
        "async def slowly(caller, channel):\n    return channel == '$' + caller.user\n"
        "class Rights:\n    @staticmethod\n    def check(caller, channel):\n        return True\n"
        "def one(caller):\n    return True\n"
        "rows = 5\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "our_rights", raising=False)


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize("name", ["our_rights:members", "our_rights:slowly", "our_rights:Rights.check"])
async def test_a_policy_by_its_name(name: str) -> None:
    """A function of an importable module, or one inside something there."""
    assert await allows(by_name(name), ALICE, "$alice")


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("our_rights", "is not of the form package.module:function"),
        (":members", "is not of the form"),
        ("our_rights:", "is not of the form"),
        ("nowhere.at_all:members", "cannot be imported: No module named 'nowhere'"),
        ("our_rights:nobody", "cannot be imported: module 'our_rights' has no attribute 'nobody'"),
        ("our_rights:one", "cannot be called with a caller and a channel"),
        ("our_rights:rows", "cannot be called with a caller and a channel"),
    ],
)
def test_a_name_that_is_no_policy_stops_the_start(name: str, why: str) -> None:
    """One line says which setting is wrong, and how."""
    with pytest.raises(OperatorError, match=r"^AUTH_SUBSCRIPTION_POLICY: ") as caught:
        by_name(name)
    assert why in str(caught.value)


@pytest.mark.usefixtures("module")
async def test_the_setting_decides(running: Running) -> None:
    """Tokens are given for what the operator's function allows, and for nothing else; the patterns do not count."""
    async with running(subscription_policy="our_rights:members") as client:
        await client.post("/register", json={"username": "alice", "password": PASSWORD})
        pair = (await client.post("/login", json={"username": "alice", "password": PASSWORD})).json()
        for channel, expected in (("$alice", 200), ("$bob", 403), ("$chat:x", 403)):
            answer = await client.post(
                "/tokens/subscription", json={"channel": channel}, headers=bearer(pair["access_token"])
            )
            assert expected == answer.status_code


async def test_a_policy_that_fails_lets_nobody_in(running: Running) -> None:
    """What it raises is a plain 500 to the client."""

    def broken(_caller: Caller, _channel: str) -> bool | Awaitable[bool]:
        raise LookupError("the rights are gone")

    chosen: SubscriptionPolicy = broken
    async with running(policy=chosen) as client:
        await client.post("/register", json={"username": "alice", "password": PASSWORD})
        pair = (await client.post("/login", json={"username": "alice", "password": PASSWORD})).json()
        with capture_logs() as logs:
            answer = await client.post(
                "/tokens/subscription", json={"channel": "$chat:x"}, headers=bearer(pair["access_token"])
            )
        assert (500, "internal_error") == fault(answer)
        assert "http.failed" in [line["event"] for line in logs]
