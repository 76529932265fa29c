"""Which channels a user gets subscription tokens for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

SubscriptionPolicy: TypeAlias = Callable[[str, str], bool]
"""`(user, channel)`: whether this user may subscribe to this channel. Anything may stand behind it."""


def by_pattern(patterns: Sequence[str]) -> SubscriptionPolicy:
    """Allow channels that equal a pattern, or begin with one that ends in `*`; `{user}` stands for the user's name.

    Everything else is denied. `$chat:*` opens the private channels of namespace `chat` to whoever can log in;
    `$inbox:{user}` gives each user one channel. Mind the end: `$inbox:{user}*` would give "al" what is "alice's".
    """

    def allowed(user: str, channel: str) -> bool:
        return any(_matches(pattern.replace("{user}", user), channel) for pattern in patterns)

    return allowed


def _matches(pattern: str, channel: str) -> bool:
    return channel.startswith(pattern[:-1]) if pattern.endswith("*") else channel == pattern
