"""Rooms: small channels in which everybody listens and speaks."""

from __future__ import annotations

from typing import ClassVar

from loadtests.scenarios.contract import Stage


class Rooms:
    """Rooms of `members`: everybody listens in one and speaks there, at his share of the rate."""

    name: ClassVar[str] = "rooms"

    async def play(self, stage: Stage) -> None:
        """Fill the rooms, and let everybody speak in turn, in no order of rooms."""
        profile = stage.profile
        room_of = [stage.channel(number // profile.members) for number in range(profile.connections)]
        clients = await stage.crowd(lambda number: [room_of[number]])
        stage.rng.shuffle(clients)  # else the ten of one room would speak at once, and then nobody for long
        await stage.ramped()
        await stage.speak(clients, profile.connections, lambda speaker, _: room_of[speaker.number])
