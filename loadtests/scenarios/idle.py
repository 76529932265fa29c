"""Idle: connections that do nothing, which is what most do most of the time."""

from __future__ import annotations

from typing import ClassVar

from loadtests.scenarios.contract import Stage


class Idle:
    """Everybody is connected and subscribed, answers pings and says nothing: what a connection costs by being there."""

    name: ClassVar[str] = "idle"

    async def play(self, stage: Stage) -> None:
        """Fill the channels, and wait. Raises ValueError: somebody is to speak."""
        if stage.profile.rate:
            raise ValueError(f"nobody speaks in idle: leave out rate={stage.profile.rate:g}, or play rooms or fan-out")
        channels = [stage.channel(it) for it in range(stage.profile.channels)]
        await stage.crowd(lambda number: [channels[number % len(channels)]])
        await stage.ramped()
        await stage.until("settle")
