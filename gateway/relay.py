"""From the engine to the hub: each publication is checked once per channel, then handed to all who listen."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.contracts.broker import History
from gateway.contracts.clock import Clock
from gateway.contracts.recorder import Recorder
from gateway.hub import Hub, Interest
from gateway.protocol.messages import JoinPush, LeavePush, PublicationPush
from gateway.repair import CHECK_STEP, PositionCheck, Repairs
from gateway.timers import TimerWheel
from gateway.types import Channel, ClientInfo, Position, Publication


class Relay:
    """The node's ear at the engine. Nothing here awaits, and nothing touches a recipient's JSON."""

    def __init__(self, *, hub: Hub, clock: Clock, recorder: Recorder, wheel: TimerWheel) -> None:
        self._hub = hub
        self._clock = clock
        self._recorder = recorder
        self._wheel = wheel
        self._repairs = Repairs(hub=hub, clock=clock, recorder=recorder, wheel=wheel, deliver=self._deliver)
        self._stamps: list[int] = []  # publish times of what leaves with the next flush

    def connect(self, history: History) -> None:
        """Mend from this history what gets lost, and look after channels that are silent."""
        self._repairs.history = history
        now = self._clock.monotonic()
        self._wheel.schedule(now + CHECK_STEP, PositionCheck(hub=self._hub, repairs=self._repairs, now=now))

    def published(self, channel: Channel, publication: Publication) -> None:
        """Pass a publication on, in order and once."""
        interest = self._hub.interests.get(channel)
        if interest is None:
            return
        if publication.offset and not self._follows(interest, publication):
            return
        if interest.publish(PublicationPush(channel, publication)):
            self._stamps.append(publication.time_ms)

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

    def suspect(self, channels: Iterable[Channel], why: str) -> None:
        """Read again what may be missing in these channels: the link was rebuilt."""
        del why  # the engine has logged it
        for channel in channels:
            interest = self._hub.interests.get(channel)
            if interest is None:
                continue
            if interest.position is not None:
                self._repairs.begin(interest, "link")
                continue
            for held in interest.joining.values():
                if not held.live:
                    held.restart(broken=True)
        self._repairs.go_on(at_once=True)

    def doubt(self, interest: Interest) -> None:
        """Find out which is the stream of a channel: a reply belongs to another than the channel's position."""
        self._repairs.begin(interest, "epoch")
        self._repairs.go_on()

    def flushed(self) -> None:
        """Observe how long the publications of this flush took from the publishing node's call to our write."""
        if self._stamps:
            stamps, self._stamps = self._stamps, []
            now = self._clock.wall()
            for stamp in stamps:
                self._recorder.observe("delivery_latency", max(0.0, now - stamp / 1000))

    def _follows(self, interest: Interest, publication: Publication) -> bool:
        """Move the channel's position; False = we had this one, or it has to wait for what is missing before it."""
        position = interest.position
        if position is None:
            interest.position = Position(publication.offset, publication.epoch)
            return True
        if publication.epoch == position.epoch:
            if publication.offset == position.offset + 1 and interest.repair is None:
                position.offset += 1
                return True
            if publication.offset <= position.offset:
                self._recorder.count("duplicates_dropped")
                return False
        repairs = self._repairs
        repair = interest.repair or repairs.begin(interest, "live" if publication.epoch == position.epoch else "epoch")
        repairs.hold(interest, repair, publication)
        repairs.go_on()
        return False

    def _deliver(self, interest: Interest, publication: Publication) -> None:
        """Pass on, in a channel that is being mended, what is the next one."""
        interest.position = Position(publication.offset, publication.epoch)
        if interest.publish(PublicationPush(interest.channel, publication)):
            self._stamps.append(publication.time_ms)
