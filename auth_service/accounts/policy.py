"""Which channels a user gets subscription tokens for: by patterns, or by a function of the operator's own."""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

from auth_service.errors import OperatorError, Refused

POLICY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a user who is logged in, and the roles that the user has now."""

    user: str
    roles: tuple[str, ...] = ()


SubscriptionPolicy: TypeAlias = Callable[[Caller, str], bool | Awaitable[bool]]
"""`(caller, channel)`: True lets this caller into this channel, all else does not. Called on the event loop: it must
not block, but may be a coroutine function. What it raises is logged, answered 500, and lets nobody in.
"""


async def allows(policy: SubscriptionPolicy, caller: Caller, channel: str) -> bool:
    """Ask a policy. Raises Refused (503) if it takes longer than five seconds, and what the policy raises."""
    limit = asyncio.timeout(POLICY_SECONDS)
    try:
        async with limit:
            verdict = policy(caller, channel)
            if inspect.isawaitable(verdict):
                verdict = await verdict
    except TimeoutError:
        if not limit.expired():
            raise  # the policy's own
        raise Refused(503, "unavailable", "who may subscribe is not known, try again", {"Retry-After": "1"}) from None
    return verdict is True  # not merely truthy: nobody is let in by a slip


def by_pattern(patterns: Sequence[str]) -> SubscriptionPolicy:
    """Allow channels that equal a pattern, or begin with one that ends in `*`; `{user}` stands for the user's name.

    Everything else is denied. `$chat:*` opens the private channels of namespace `chat` to whoever can log in;
    `$inbox:{user}` gives each user one channel. Mind the end: `$inbox:{user}*` would give "al" what is "alice's".
    """

    def allowed(caller: Caller, channel: str) -> bool:
        return any(_matches(pattern.replace("{user}", caller.user), channel) for pattern in patterns)

    return allowed


def by_name(name: str) -> SubscriptionPolicy:
    """Import `package.module:function`. Raises OperatorError if there is no such thing that takes two arguments."""
    where, _, what = name.partition(":")
    if not where or not what:
        raise OperatorError(f"AUTH_SUBSCRIPTION_POLICY: {name!r} is not of the form package.module:function")
    try:
        found = importlib.import_module(where)
        for part in what.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise OperatorError(f"AUTH_SUBSCRIPTION_POLICY: {name!r} cannot be imported: {error}") from None
    try:
        inspect.signature(cast("SubscriptionPolicy", found)).bind(Caller(""), "")
    except TypeError:
        raise OperatorError(
            f"AUTH_SUBSCRIPTION_POLICY: {name!r} cannot be called with a caller and a channel"
        ) from None
    return cast("SubscriptionPolicy", found)


def _matches(pattern: str, channel: str) -> bool:
    return channel.startswith(pattern[:-1]) if pattern.endswith("*") else channel == pattern
