"""How clients of several scenarios leave and come back, and which channels are theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Literal, TypeAlias

from loadtests.scenarios.contract import Client, RefusedError, Stage

How: TypeAlias = Literal["cut", "leave", "gone"]

TRIES: Final = 8  # to find somebody by chance who is not away
NAMED: Final = 5  # clients that a fault names


class Homes:
    """Channels that belong to one process each, with all their members: what happens there it can judge alone."""

    def __init__(self, stage: Stage) -> None:
        self._numbers = stage.mine(stage.profile.connections)
        # With fewer channels than processes each still needs one.
        self.total = max(stage.profile.channels, stage.share.of)
        self.channels = [stage.channel(it) for it in stage.mine(self.total)]

    def of(self, number: int) -> str:
        """Return the channel of one of this process's clients, by its number in the crowd."""
        return self.channels[self._numbers.index(number) % len(self.channels)]


class Absences:
    """Who is away. Everybody comes back when his time is over, and at once when the run settles."""

    def __init__(self, stage: Stage, returned: Callable[[Client], None] | None = None) -> None:
        self._stage = stage
        self._returned = returned
        self._tasks: dict[Client, asyncio.Task[None]] = {}

    def __contains__(self, client: Client) -> bool:
        """Whether he is away, or on his way back."""
        return client in self._tasks

    def begin(self, client: Client, seconds: float, how: How) -> None:
        """Let somebody be away for so long: cut off before this returns, leaving in good order, or gone already."""
        if how == "cut":
            client.cut(stay_away=True)
        self._tasks[client] = asyncio.create_task(self._absence(client, seconds, leave=how == "leave"))

    async def over(self, within: float) -> None:
        """Wait until everybody is back; who is not `within` so many seconds is a fault of the server."""
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=within)
        lost, self._tasks = self._tasks, {}
        for task in lost.values():
            task.cancel()
        for end in await asyncio.gather(*lost.values(), return_exceptions=True):
            # Who was refused was told not to come back.
            if isinstance(end, BaseException) and not isinstance(end, asyncio.CancelledError | RefusedError):
                raise end
        if lost:
            named = ", ".join(it.user for it in list(lost)[:NAMED])
            self._stage.meters.fault(f"{len(lost)} clients did not come back within {within:g} s: {named}")

    async def _absence(self, client: Client, seconds: float, *, leave: bool) -> None:
        if leave:
            await client.leave()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stage.until("settle"), seconds)
        await client.open()
        del self._tasks[client]
        if self._returned is not None:
            self._returned(client)


async def churn(
    stage: Stage, clients: Sequence[Client], absences: Absences, *, away: tuple[float, float], cut: float
) -> None:
    """Let clients leave at the profile's rate until the settling; a share `cut` of them without a word.

    They are these clients' share of everybody's. `away`: between how many seconds they stay.
    """
    rate = stage.profile.churn * len(stage.mine(stage.profile.connections)) / stage.profile.connections
    if not clients or not rate:
        await stage.until("settle")
        return
    async for _ in stage.pace(rate):
        chosen = (stage.rng.choice(clients) for _ in range(TRIES))
        if (client := next((it for it in chosen if it not in absences and it.connected), None)) is not None:
            absences.begin(client, stage.rng.uniform(*away), "cut" if stage.rng.random() < cut else "leave")


async def publishers(stage: Stage) -> list[Client]:
    """Open this process's share of the clients who only speak; they have the numbers after all others."""
    total = max(stage.profile.publishers, stage.share.of)
    return await stage.crowd(lambda _: (), total, first=stage.profile.connections)


def in_turn(channels: Sequence[str]) -> Callable[[Client, int], str]:
    """Return where a speaker speaks next: each goes through all channels, and no two are in step."""
    return lambda speaker, turn: channels[(speaker.number + turn) % len(channels)]
