"""Publications through Redis Pub/Sub; with history, kept and fanned out by one script."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, Protocol

import structlog

from gateway.contracts.broker import Done
from gateway.contracts.engine import EngineOptions
from gateway.contracts.recorder import Recorder
from gateway.engines.redis.envelope import JOIN, LEAVE, PLAIN, PUBLICATION, Envelope
from gateway.engines.redis.partition import Partition, Place, milliseconds
from gateway.engines.redis.subscriptions import Subscriptions
from gateway.errors import EngineFault
from gateway.protocol.values import Published, PublishOptions
from gateway.types import Channel, ClientInfo, Position, Publication

EDGE: Final = b"1"  # in the head of a join or leave: the first or last connection of that user

log = structlog.get_logger(__name__)


def candidate_epoch() -> str:
    """Return a name for a stream that may have to be begun; fresh each time, or a lost stream would seem to go on."""
    return f"{random.getrandbits(32):08x}"


class Audience(Protocol):
    """Who hears what is published: the node's sink, or the control bus. See `contracts.engine.EngineSink`."""

    def published(self, channel: Channel, publication: Publication) -> None:
        """A publication."""

    def joined(self, channel: Channel, who: ClientInfo, first: bool) -> None:
        """A join."""

    def left(self, channel: Channel, who: ClientInfo, last: bool) -> None:
        """A leave."""

    def suspect(self, channels: Iterable[Channel], why: str) -> None:
        """These stand again after a loss."""


class RedisBroker:
    """See `contracts.broker.Broker`. The hot path: one command, one callback, no task and no future."""

    def __init__(self, place: Place, *, audience: Audience, envelope: Envelope, options: EngineOptions) -> None:
        self._place = place
        self._envelope = envelope
        self._options = options
        self._arrivals = Arrivals(audience, envelope, options.recorder)

    def publish(self, channel: Channel, data: bytes, options: PublishOptions, done: Done[Published]) -> None:
        """See the contract."""
        blob = self._envelope.publication(data, options)
        partition = self._place(channel)
        name = partition.names.client + channel
        if options.history_size or options.idempotency_key:
            self._publish_by_script(partition, channel, blob, options, partial(self._stored, partition, name, done))
        else:
            partition.commands.call(("PUBLISH", name, PLAIN + blob), partial(self._sent, partition, name, done))

    def subscribe(self, channel: Channel, done: Done[None]) -> None:
        """See the contract."""
        partition = self._place(channel)
        partition.subscriptions.subscribe(partition.names.client + channel, channel, self._arrivals, done)

    def keep(self, channel: Channel) -> None:
        """Subscribe for good, link or no link; the audience hears `suspect` each time it stands."""
        partition = self._place(channel)
        partition.subscriptions.keep(partition.names.client + channel, channel, self._arrivals)

    def unsubscribe(self, channel: Channel) -> None:
        """See the contract."""
        partition = self._place(channel)
        partition.subscriptions.unsubscribe(partition.names.client + channel)

    def claim(self, key: str, ttl: float, done: Done[bool]) -> None:
        """See the contract."""
        partition = self._place(key)
        name = partition.names.claim + key

        def answered(reply: Any) -> None:
            done(reply if isinstance(reply, EngineFault) else reply is not None)

        partition.commands.call(("SET", name, "1", "NX", "PX", max(1, milliseconds(ttl))), answered)

    # --- inside

    def _publish_by_script(
        self, partition: Partition, channel: Channel, blob: bytes, options: PublishOptions, answered: Done[Any]
    ) -> None:
        names, key = partition.names, options.idempotency_key
        # The length keeps channel "a.b" with key "c" apart from channel "a" with key "b.c".
        result = f"{names.result}{len(channel)}.{channel}.{key}"
        args = (
            names.client + channel,
            blob,
            options.history_size,
            milliseconds(options.history_ttl),
            milliseconds(options.history_meta_ttl),
            candidate_epoch(),
            max(1, milliseconds(self._options.idempotency_ttl)) if key else 0,
        )
        partition.run("publish", (names.stream + channel, names.meta + channel, result), args, answered)

    def _sent(self, partition: Partition, name: str, done: Done[Published], reply: int | EngineFault) -> None:
        if isinstance(reply, EngineFault):
            done(reply)
            return
        if reply == 0:
            self._nobody(partition.subscriptions, name)
        done(Published())

    def _stored(self, partition: Partition, name: str, done: Done[Published], reply: Any) -> None:
        if isinstance(reply, EngineFault):
            done(reply)
            return
        offset, epoch, duplicate, receivers = reply
        if receivers == 0 and not duplicate:
            self._nobody(partition.subscriptions, name)
        position = Position(offset, epoch.decode()) if offset else None
        done(Published(position, duplicate=bool(duplicate)))

    def _nobody(self, subscriptions: Subscriptions, name: str) -> None:
        """Count a publication that nobody got although we are subscribed: the pub/sub link is on another server."""
        if subscriptions.wanted(name):
            self._options.recorder.count("redis_publish_zero_receivers")


class Arrivals:
    """Unpacks what arrives and tells the audience; what is not ours is counted and dropped."""

    def __init__(self, audience: Audience, envelope: Envelope, recorder: Recorder) -> None:
        self._audience = audience
        self._published = audience.published
        self._unpack = envelope.read_publication
        self._unpack_client = envelope.read_client
        self._recorder = recorder

    def arrived(self, channel: Channel, payload: bytes) -> None:
        """Take one message. The hot path of a node that delivers."""
        move: Callable[[], None] | None = None
        publication: Publication | None = None
        try:
            kind, number, epoch, blob = payload.split(b":", 3)
            if kind == PUBLICATION:
                publication = self._unpack(blob, int(number), epoch.decode())
            else:
                move = self._move(channel, kind, number == EDGE, blob)
        except ValueError as error:
            self._recorder.count("redis_foreign_payloads")
            log.warning("redis.foreign_payload", channel=channel, size=len(payload), why=str(error))
        # Told outside the `try`: what the audience raises is not the payload's fault.
        if publication is not None:
            self._published(channel, publication)
        elif move is not None:
            move()

    def suspect(self, channels: Iterable[Channel], why: str) -> None:
        """Pass on that messages may be missing."""
        self._audience.suspect(channels, why)

    def _move(self, channel: Channel, kind: bytes, edge: bool, blob: bytes) -> Callable[[], None]:
        if kind not in (JOIN, LEAVE):
            raise ValueError(f"unknown kind {kind[:8]!r}")
        tell = self._audience.joined if kind == JOIN else self._audience.left
        return partial(tell, channel, self._unpack_client(blob), edge)
