"""One to one: many channels with one subscriber each."""

from __future__ import annotations

from typing import ClassVar

from loadtests.scenarios.contract import Client, Stage
from loadtests.scenarios.moves import publishers


class OneToOne:
    """Everybody has a channel of his own; a few others speak in all of them in turn: each publication goes to one."""

    name: ClassVar[str] = "one-to-one"

    async def play(self, stage: Stage) -> None:
        """Give everybody his channel, and let each publisher go through those that are his to speak in."""
        profile = stage.profile
        channels = [stage.channel(it) for it in range(profile.connections)]
        await stage.crowd(lambda number: [channels[number]])
        speakers = await publishers(stage)
        await stage.ramped()
        total = max(profile.publishers, stage.share.of)

        def channel_of(speaker: Client, turn: int) -> str:
            return channels[(speaker.number - profile.connections + turn * total) % len(channels)]

        await stage.speak(speakers, total, channel_of)
