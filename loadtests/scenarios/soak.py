"""Soak: everyday life, for long enough that a leak shows."""

from __future__ import annotations

import asyncio
from typing import ClassVar, Final

from loadtests.scenarios.contract import Stage
from loadtests.scenarios.moves import Absences, churn, in_turn, publishers

CUT: Final = 0.3  # share of those who go that do so without a word: a tunnel, a closed lid
AWAY: Final = (0.0, 20.0)  # seconds


class Soak:
    """Everyday life: people leave, are cut off and come back for what they missed, while others speak."""

    name: ClassVar[str] = "soak"

    async def play(self, stage: Stage) -> None:
        """Let everybody live until the settling, and be there at the end."""
        profile = stage.profile
        channels = [stage.channel(it) for it in range(profile.channels)]
        clients = await stage.crowd(lambda number: [channels[number % len(channels)]])
        speakers = await publishers(stage)
        await stage.ramped()
        absences = Absences(stage)
        total = max(profile.publishers, stage.share.of)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(churn(stage, clients, absences, away=AWAY, cut=CUT))
            tasks.create_task(stage.speak(speakers, total, in_turn(channels)))
        await absences.over(profile.settle)
