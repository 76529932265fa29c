"""What one client says: numbered by channel, and noted in the ledger before it is sent."""

from __future__ import annotations

from loadtests.clients.conversation import Conversation
from loadtests.clients.ground import Ground
from loadtests.oracle import SPEAKER


class Voice:
    """Of the client with this number, who is speaker `number + 1`: 0 is for those who name nobody."""

    __slots__ = ("_ground", "_newest", "_speaker")

    def __init__(self, ground: Ground, number: int) -> None:
        self._ground = ground
        self._speaker = number + 1
        self._newest: dict[str, int] = {}  # by channel

    def say(self, talk: Conversation, channel: str, due: int) -> None:
        """Send a publication that was due then."""
        number = self._next(channel)
        self._ground.meters.count("published")
        self._ground.ledger.publishing(channel, number, measured=self._ground.meters.measures(due))
        talk.publish(channel, number, due)

    def swallow(self, channel: str, due: int, *, willing: bool) -> None:
        """Count a publication that cannot be sent, since the client is not connected; `willing`: by its own doing."""
        self._ground.meters.count("errors")
        self._ground.meters.refused("not connected")
        if not willing:  # it was due all the same: a server that hangs up would else be spared its latency
            self._ground.ledger.unsent(channel, self._next(channel), measured=self._ground.meters.measures(due))

    def _next(self, channel: str) -> int:
        self._newest[channel] = number = self._newest.get(channel, self._speaker << SPEAKER) + 1
        return number
