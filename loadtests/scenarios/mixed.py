"""Mixed: what an application does at the same time."""

from __future__ import annotations

import asyncio
from typing import ClassVar, Final

from loadtests.scenarios.contract import Client, Stage
from loadtests.scenarios.moves import Absences, churn, publishers

BROADCAST: Final = 0.02  # of all publications; each is delivered to everybody
ROOMS: Final = 0.28  # the rest goes from one client to another
CUT: Final = 0.5
AWAY: Final = (0.0, 2.0)  # seconds


class Mixed:
    """Rooms, messages from one to another, one channel that everybody hears, and people who come and go."""

    name: ClassVar[str] = "mixed"

    async def play(self, stage: Stage) -> None:
        """Give everybody the broadcast, a room and a channel of his own, and let all speak."""
        profile, plan = stage.profile, Plan(stage)
        clients = await stage.crowd(plan.channels_of)
        announcers = await publishers(stage)
        stage.rng.shuffle(clients)
        await stage.ramped()
        absences = Absences(stage)
        # Who speaks stays: what somebody would say while he is away is no load, and counts as refused.
        stay, go = ([it for it in clients if it.number % 2 == odd] for odd in (0, 1))
        half = (profile.connections + 1) // 2
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(churn(stage, go, absences, away=AWAY, cut=CUT))
            if profile.rate:
                announcing = max(profile.publishers, stage.share.of)
                rate = profile.rate
                tasks.create_task(stage.speak(announcers, announcing, plan.to_all, rate * BROADCAST))
                tasks.create_task(stage.speak(stay, half, plan.to_room, rate * ROOMS))
                tasks.create_task(stage.speak(stay, half, plan.to_one, rate * (1 - BROADCAST - ROOMS)))
        await absences.over(profile.settle)


class Plan:
    """Who hears what; channels are numbered: the broadcast, the rooms, then one for each client."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._clients = stage.profile.connections
        self._members = stage.profile.members
        self._first_own = 1 + -(-self._clients // self._members)

    def channels_of(self, number: int) -> list[str]:
        """Return the three channels of a client."""
        return [self._stage.channel(it) for it in (0, 1 + number // self._members, self._first_own + number)]

    def to_all(self, _: Client, __: int) -> str:
        """Return the broadcast channel."""
        return self._stage.channel(0)

    def to_room(self, speaker: Client, _: int) -> str:
        """Return the speaker's room."""
        return self._stage.channel(1 + speaker.number // self._members)

    def to_one(self, speaker: Client, turn: int) -> str:
        """Return the channel of somebody else, another one each time."""
        other = (speaker.number + 1 + turn % max(1, self._clients - 1)) % self._clients
        return self._stage.channel(self._first_own + other)
