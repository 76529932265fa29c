"""Slow: some subscribers read next to nothing; nobody else may notice."""

from __future__ import annotations

from typing import ClassVar

from loadtests.scenarios.contract import Stage
from loadtests.scenarios.moves import in_turn, publishers


class Slow:
    """A share `slow` of the subscribers reads next to nothing: they are cut off, and the others notice nothing."""

    name: ClassVar[str] = "slow"

    async def play(self, stage: Stage) -> None:
        """Publish to everybody, and see at the end who was cut off."""
        profile = stage.profile
        channels = [stage.channel(it) for it in range(profile.channels)]
        clients = await stage.crowd(
            lambda number: [channels[number % len(channels)]],
            slow=lambda number: reads_slowly(number, profile.slow),
        )
        speakers = await publishers(stage)
        await stage.ramped()
        total = max(profile.publishers, stage.share.of)
        await stage.speak(speakers, total, in_turn(channels))
        healthy = []
        for client in clients:
            if reads_slowly(client.number, profile.slow):
                client.hurry()  # who was not cut off is to get everything that waits for him
            else:
                healthy.append(client)
        if cut := sum(bool(it.closes) for it in healthy):
            stage.meters.fault(f"{cut} of {len(healthy)} healthy clients lost their connection because of slow ones")


def reads_slowly(number: int, share: float) -> bool:
    """Whether this client does, so that they are spread evenly."""
    return int((number + 1) * share) > int(number * share)
