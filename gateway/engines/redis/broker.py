"""Publications through Redis Pub/Sub; with history, kept and fanned out by one script."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, Protocol

import structlog

from gateway.contracts.broker import Broker, Done
from gateway.contracts.engine import EngineOptions
from gateway.contracts.recorder import Recorder
from gateway.engines.redis.entries import Listener
from gateway.engines.redis.envelope import JOIN, LEAVE, PLAIN, PUBLICATION, Envelope
from gateway.engines.redis.partition import Partition, Place, milliseconds
from gateway.engines.redis.repeats import Repeats
from gateway.errors import EngineFault
from gateway.protocol.values import Published, PublishOptions
from gateway.types import Channel, ClientInfo, Position, Publication

PATIENCE: Final = 2  # command timeouts for a publication with an idempotency key, its repetition included
OFFSETS: Final = 2**63  # as many as Redis counts
_TAKEN: Final = Published()
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


class RedisBroker(Broker):
    """See `contracts.broker.Broker`. The hot path: one command, one callback, no task and no future."""

    def __init__(
        self,
        place: Place,
        *,
        audience: Audience,
        clock: Callable[[], float],
        envelope: Envelope,
        options: EngineOptions,
    ) -> None:
        self._place = place
        self._repeats = Repeats(clock=clock, patience=PATIENCE * options.command_timeout)
        self._envelope = envelope
        self._options = options
        self._arrivals = Arrivals(audience, envelope, options.recorder)

    def publish(self, channel: Channel, data: bytes, options: PublishOptions, done: Done[Published]) -> None:
        """See the contract."""
        blob = self._envelope.publication(data, options)
        partition = self._place(channel)
        name = partition.names.client + channel
        answer = _Answer(partition, name, self._options.recorder, done)
        if options.idempotency_key:
            self._publish_once(channel, blob, options, answer.stored)
        elif options.history_size:
            self._publish_by_script(channel, blob, options, partition, answer.stored)
        else:
            partition.commands.call((partition.publish_verb, name, PLAIN + blob), answer)

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

    def sweep(self, now: float) -> None:
        """Repeat what may be repeated; call it a few times a second."""
        self._repeats.sweep(now)

    def close(self) -> None:
        """Answer everybody who still waits for a repetition; call it when the links are closed."""
        self._repeats.close()

    # --- inside

    def _publish_once(self, channel: Channel, blob: bytes, options: PublishOptions, answered: Done[Any]) -> None:
        send = partial(self._publish_by_script, channel, blob, options)
        self._repeats.send(partial(self._place, channel), send, answered)

    def _publish_by_script(
        self, channel: Channel, blob: bytes, options: PublishOptions, partition: Partition, answered: Done[Any]
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
        partition.go_on("publish", (names.stream + channel, names.meta + channel, result), args, answered)


class _Answer:
    """What comes of a publication. A class, and no partial or closure: one is made for each."""

    __slots__ = ("_done", "_name", "_partition", "_recorder")

    def __init__(self, partition: Partition, name: str, recorder: Recorder, done: Done[Published]) -> None:
        self._partition = partition
        self._name = name
        self._recorder = recorder
        self._done = done

    def __call__(self, reply: Any) -> None:
        """Take the answer to PUBLISH: how many got it, or a fault."""
        if not isinstance(reply, int):
            self._done(reply)
            return
        if reply == 0:
            self._nobody()
        self._done(_TAKEN)

    def stored(self, reply: Any) -> None:
        """Take the answer of the script."""
        if isinstance(reply, EngineFault):
            self._done(reply)
            return
        offset, epoch, duplicate, receivers = reply
        if receivers == 0 and not duplicate:
            self._nobody()
        position = Position(offset, epoch.decode()) if offset else None
        self._done(Published(position, duplicate=bool(duplicate)))

    def _nobody(self) -> None:
        """Count a publication that nobody got although we are subscribed: the pub/sub link is on another server."""
        if self._partition.subscriptions.wanted(self._name):
            self._recorder.count("redis_publish_zero_receivers")


class Arrivals(Listener):
    """Unpacks what arrives and tells the audience; what is not ours is counted and dropped."""

    def __init__(self, audience: Audience, envelope: Envelope, recorder: Recorder) -> None:
        self._audience = audience
        self._published = audience.published
        self._envelope = envelope
        self._recorder = recorder

    def arrived(self, channel: Channel, payload: bytes) -> None:
        """Take one message. The hot path of a node that delivers."""
        move: Callable[[], None] | None = None
        publication: Publication | None = None
        try:
            if payload.startswith(PLAIN):  # as most do
                publication = self._envelope.read_publication(payload[len(PLAIN) :], 0, "")
            else:
                kind, number, epoch, blob = payload.split(b":", 3)
                if kind == PUBLICATION:
                    publication = self._envelope.read_publication(blob, _offset(number), epoch.decode())
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
        return partial(tell, channel, self._envelope.read_client(blob), edge)


def _offset(number: bytes) -> int:
    if not number.isdigit() or (offset := int(number)) >= OFFSETS:
        raise ValueError(f"no offset: {number[:32]!r}")
    return offset
