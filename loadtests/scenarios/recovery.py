"""Recovery: everybody misses publications, and everybody comes for them at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar, Final

from loadtests.scenarios.contract import Client, Stage
from loadtests.scenarios.moves import Absences, Homes, publishers

LOOK: Final = 0.02  # seconds between two looks at whether all publications were taken
PUBLISHING: Final = 0.5  # of a round; then everybody comes back


class Recovery:
    """Everybody is away while each channel gets `missed` publications; then all come back at once and catch up."""

    name: ClassVar[str] = "recovery"

    async def play(self, stage: Stage) -> None:
        """Play as many rounds as the profile has cuts, at least one."""
        profile, homes = stage.profile, Homes(stage)
        rounds = max(1, profile.cuts)
        length = profile.duration / rounds
        if not profile.rate or profile.missed * homes.total / profile.rate > 0.8 * PUBLISHING * length:
            raise ValueError(
                f"{profile.missed} publications to each of {homes.total} channels, {profile.rate:g} a second, take "
                f"more than {0.8 * PUBLISHING * length:g} s, which is what a round has: more `rate` or `duration`"
            )
        clients = await stage.crowd(lambda number: [homes.of(number)])
        speakers = await publishers(stage)
        await stage.ramped()
        for number in range(rounds):
            await stage.at(number * length)
            if stage.phase == "settle":
                break
            await _round(stage, clients, speakers, homes, back_at=(number + PUBLISHING) * length)


async def _round(
    stage: Stage, clients: Sequence[Client], speakers: Sequence[Client], homes: Homes, *, back_at: float
) -> None:
    absences = _Returns(stage, clients)
    absences.leave()
    await _publish(stage, speakers, homes)
    await stage.at(back_at)
    await absences.back()


class _Returns:
    """One round of everybody: what each had before, and has when he is back."""

    def __init__(self, stage: Stage, clients: Sequence[Client]) -> None:
        self._stage = stage
        self._clients = [it for it in clients if it.connected]
        self._before = {it: _state(it) for it in self._clients}

    def leave(self) -> None:
        """Cut everybody off."""
        for client in self._clients:
            client.cut(stay_away=True)

    async def back(self) -> None:
        """Let everybody come back, and see that each got what he missed."""
        absences = Absences(self._stage)
        for client in self._clients:
            absences.begin(client, self._stage.rng.uniform(0.0, self._stage.profile.jitter), "gone")
        await absences.over(self._stage.profile.settle)
        states = {it: _state(it) for it in self._clients}
        told = [it for it in self._clients if states[it][1] != self._before[it][1]]
        missed = self._stage.profile.missed
        short = [it for it in self._clients if states[it][0] - self._before[it][0] != missed and it not in told]
        for people, what in ((told, "were told that they could not recover"), (short, "got another number than")):
            if people:
                self._stage.meters.fault(f"{len(people)} clients {what} {missed} missed publications")


def _state(client: Client) -> tuple[int, int]:
    """Return how many publications he got, and how often he was told of a loss."""
    logs = client.logs.values()
    return sum(it.deliveries for it in logs), sum(it.tells.total() for it in logs)


async def _publish(stage: Stage, speakers: Sequence[Client], homes: Homes) -> None:
    """Publish what everybody misses, to each channel the same, and wait until all is taken."""
    todo = [channel for _ in range(stage.profile.missed) for channel in homes.channels]
    pace = stage.pace(stage.profile.rate * len(homes.channels) / homes.total)
    for turn, channel in enumerate(todo):
        if (due := await anext(pace, None)) is None:
            return
        speakers[turn % len(speakers)].publish(channel, due)
    while stage.ledger.count("doubtful") and stage.phase != "settle":  # noqa: ASYNC110 - answers tell nobody
        await asyncio.sleep(LOOK)
