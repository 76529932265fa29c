"""Fan-out: few channels, and everybody hears what few say."""

from __future__ import annotations

from typing import ClassVar

from loadtests.scenarios.contract import Stage
from loadtests.scenarios.moves import publishers


class FanOut:
    """Everybody listens to one of few channels; a few others speak: each publication is delivered to very many."""

    name: ClassVar[str] = "fan-out"

    async def play(self, stage: Stage) -> None:
        """Fill the channels, and let the publishers, who have connections of their own, speak in each in turn."""
        profile = stage.profile
        channels = [stage.channel(it) for it in range(profile.channels)]
        await stage.crowd(lambda number: [channels[number % len(channels)]])
        speakers = await publishers(stage)
        await stage.ramped()
        # Each speaker begins with another channel: those who are due together speak in different ones.
        total = max(profile.publishers, stage.share.of)
        await stage.speak(
            speakers,
            total,
            lambda speaker, turn: channels[(speaker.number - profile.connections + turn) % len(channels)],
        )
