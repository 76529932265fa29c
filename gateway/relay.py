"""From the engine to the hub: each publication is checked once per channel, then handed to all who listen."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.contracts.clock import Clock
from gateway.contracts.recorder import Recorder
from gateway.hub import Held, Hub, Interest
from gateway.protocol.messages import JoinPush, LeavePush, PublicationPush
from gateway.types import Channel, ClientInfo, Position, Publication


class Relay:
    """The node's ear at the engine. Nothing here awaits, and nothing touches a recipient's JSON."""

    def __init__(self, *, hub: Hub, clock: Clock, recorder: Recorder) -> None:
        self._hub = hub
        self._clock = clock
        self._recorder = recorder
        self._stamps: list[int] = []  # publish times of what leaves with the next flush

    def published(self, channel: Channel, publication: Publication) -> None:
        """Pass a publication on, in order and once."""
        interest = self._hub.interests.get(channel)
        if interest is None:
            return
        if publication.offset and not self._follows(interest, publication):
            return
        self._stamps.append(publication.time_ms)
        interest.publish(PublicationPush(channel, publication))

    def joined(self, channel: Channel, who: ClientInfo, first: bool) -> None:
        """Pass a join on."""
        interest = self._hub.interests.get(channel)
        if interest is not None:
            interest.announce(JoinPush(channel, who, first, int(self._clock.wall() * 1000)))

    def left(self, channel: Channel, who: ClientInfo, last: bool) -> None:
        """Pass a leave on."""
        interest = self._hub.interests.get(channel)
        if interest is not None:
            interest.announce(LeavePush(channel, who, last, int(self._clock.wall() * 1000)))

    def suspect(self, channels: Iterable[Channel], why: str, spare: Held | None = None) -> None:
        """Tell whoever keeps a position in these channels that publications may be missing.

        Who is joining reads history again instead; `spare` has just read it.
        """
        for channel in channels:
            interest = self._hub.interests.get(channel)
            if interest is None:
                continue
            for held in interest.joining.values():
                if not held.live and held is not spare:
                    held.restart(broken=True)
            if interest.position is not None:
                self._recorder.count("gaps_detected", "epoch" if why == "epoch" else "link")
                position, interest.position = interest.position, None
                self._tell(interest, position)

    def flushed(self) -> None:
        """Observe how long the publications of this flush took from the publishing node's call to our write."""
        if self._stamps:
            stamps, self._stamps = self._stamps, []
            now = self._clock.wall()
            for stamp in stamps:
                self._recorder.observe("delivery_latency", max(0.0, now - stamp / 1000))

    def _follows(self, interest: Interest, publication: Publication) -> bool:
        """Move the channel's position; False = we had this one."""
        position = interest.position
        if position is None:
            interest.position = Position(publication.offset, publication.epoch)
            return True
        if publication.epoch == position.epoch:
            if publication.offset == position.offset + 1:
                position.offset += 1
                return True
            if publication.offset <= position.offset:
                self._recorder.count("duplicates_dropped")
                return False
        self._recorder.count("gaps_detected", "live")
        interest.position = Position(publication.offset, publication.epoch)
        self._tell(interest, position)
        return True

    @staticmethod
    def _tell(interest: Interest, position: Position) -> None:
        interest.spill()
        for recipient in tuple(interest.recipients()):
            held = interest.joining.get(recipient)  # its reply may have reached further than the channel
            own = position if held is None or held.position is None else held.position
            recipient.insufficient(interest.channel, Position(own.offset, own.epoch))
