"""Publishing for the server API: to one channel, or to thousands at once without a task for each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from gateway import errors
from gateway.answers import answer, answers
from gateway.api import bodies
from gateway.api.bodies import RefusedError, named
from gateway.contracts.clock import Clock
from gateway.contracts.recorder import Recorder
from gateway.errors import EngineFault, ErrorReply
from gateway.node import Node
from gateway.protocol.channels import ChannelOptions, Namespaces
from gateway.protocol.compact import Published
from gateway.protocol.values import PublishOptions
from gateway.types import Channel

AT_ONCE: Final = 1_000  # channels of one turn of the loop, about 10 ms; a body may name 100,000 channels


class Publisher:
    """Publishes as the options of the channels have it; counts what came of it."""

    def __init__(self, *, node: Node, namespaces: Namespaces, clock: Clock, recorder: Recorder) -> None:
        self._node = node
        self._namespaces = namespaces
        self._clock = clock
        self._recorder = recorder

    async def to_one(self, name: str, payload: bodies.Payload, data: bytes) -> bodies.PublishResult:
        """Publish; returns when the engine has taken it. Raises RefusedError or EngineFault."""
        channel = named(name)
        how = self._how(payload, self._options(channel, payload))
        try:
            published = await answer(self._node.engine.broker.publish, channel, data, how)
        except EngineFault:
            self._recorder.count("publishes", "error")
            raise
        return self._taken(published)

    async def to_many(self, names: Sequence[str], payload: bodies.Payload, data: bytes) -> list[bodies.OneResult]:
        """Publish to each; returns what came of each, in their order, when the engine has answered all."""
        known: dict[int, PublishOptions] = {}  # by options of a channel, which a whole namespace shares
        results: list[bodies.OneResult] = []
        for first in range(0, len(names), AT_ONCE):
            if first:
                await asyncio.sleep(0)  # the engine may have answered within the turn
            results += await self._some(names[first : first + AT_ONCE], payload, data, known)
        return results

    async def _some(
        self, names: Sequence[str], payload: bodies.Payload, data: bytes, known: dict[int, PublishOptions]
    ) -> list[bodies.OneResult]:
        refused: dict[int, ErrorReply] = {}  # by place
        calls: list[tuple[Channel, bytes, PublishOptions]] = []
        for place, name in enumerate(names):
            try:
                options = self._options(channel := named(name), payload)
            except RefusedError as refusal:
                refused[place] = refusal.error
                continue
            how = known.get(id(options))
            if how is None:
                how = known[id(options)] = self._how(payload, options)
            calls.append((channel, data, how))
        each = iter(await answers(self._node.engine.broker.publish, calls))
        return [_refused(refused[it]) if it in refused else self._one(next(each)) for it in range(len(names))]

    def _options(self, channel: Channel, payload: bodies.Payload) -> ChannelOptions:
        if payload.version or payload.version_epoch:
            raise RefusedError(errors.NOT_AVAILABLE.saying("version is not supported"))
        options = self._namespaces.options(channel)
        if options is None:
            raise RefusedError(errors.UNKNOWN_CHANNEL)
        return options

    def _how(self, payload: bodies.Payload, options: ChannelOptions) -> PublishOptions:
        keep = options.keeps_history and not payload.skip_history
        return PublishOptions(
            history_size=options.history_size if keep else 0,
            history_ttl=options.history_ttl if keep else 0.0,
            history_meta_ttl=options.history_meta_ttl if keep else 0.0,
            idempotency_key=payload.idempotency_key,
            tags=payload.tags or None,
            time_ms=int(self._clock.wall() * 1000),
        )

    def _one(self, came: Published | EngineFault) -> bodies.OneResult:
        if isinstance(came, EngineFault):
            self._recorder.count("publishes", "error")
            return _refused(errors.INTERNAL)
        return bodies.OneResult(result=self._taken(came))

    def _taken(self, published: Published) -> bodies.PublishResult:
        self._recorder.count("publishes", "duplicate" if published.duplicate else "ok")
        if published.position is None:
            return bodies.PublishResult()
        return bodies.PublishResult(published.position.offset, published.position.epoch)


def _refused(error: ErrorReply) -> bodies.OneResult:
    return bodies.OneResult(error=bodies.ErrorBody(error.code, error.message))
