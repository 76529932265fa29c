"""Kept publications, read from Redis streams."""

from __future__ import annotations

from typing import Any, Final

import structlog

from gateway.contracts.broker import Done
from gateway.contracts.recorder import Recorder
from gateway.engines.redis.broker import candidate_epoch
from gateway.engines.redis.envelope import Envelope
from gateway.engines.redis.partition import Place, milliseconds
from gateway.errors import EngineFault
from gateway.protocol.values import HistoryPage, HistoryQuery
from gateway.types import Channel, Position, Publication

_LAST_ID: Final = 2**63  # more than any offset; a client may name a `since` that Redis would not take

log = structlog.get_logger(__name__)


class RedisHistory:
    """See `contracts.broker.History`."""

    def __init__(self, place: Place, *, envelope: Envelope, recorder: Recorder) -> None:
        self._place = place
        self._envelope = envelope
        self._recorder = recorder

    def read(self, channel: Channel, query: HistoryQuery, done: Done[HistoryPage]) -> None:
        """See the contract."""
        partition = self._place(channel)
        names = partition.names
        first, last = _bounds(query)
        args = (candidate_epoch(), milliseconds(query.meta_ttl), query.limit, first, last, int(query.reverse))

        def answered(reply: Any) -> None:
            done(reply if isinstance(reply, EngineFault) else self._page(channel, reply))

        partition.go_on("history", (names.stream + channel, names.meta + channel), args, answered)

    def remove(self, channel: Channel, done: Done[None]) -> None:
        """See the contract."""
        partition = self._place(channel)

        def answered(reply: Any) -> None:
            done(reply if isinstance(reply, EngineFault) else None)

        partition.commands.call(("DEL", partition.names.stream + channel), answered)

    def _page(self, channel: Channel, reply: Any) -> HistoryPage:
        epoch_bytes, top, entries = reply
        epoch = epoch_bytes.decode()
        publications: list[Publication] = []
        for entry_id, fields in entries:
            try:
                offset = int(entry_id.partition(b"-")[0])
                publications.append(self._envelope.read_publication(fields[1], offset, epoch))
            except ValueError as error:  # the hole it leaves tells the reader that something is missing
                self._recorder.count("redis_foreign_payloads")
                log.warning("redis.foreign_entry", channel=channel, why=str(error))
        return HistoryPage(publications, Position(top, epoch))


def _bounds(query: HistoryQuery) -> tuple[str, str]:
    """Return the lowest and highest stream id asked for; `since` itself is not."""
    if query.since is None:
        return "-", "+"
    offset = min(max(query.since.offset, 0), _LAST_ID)
    if query.reverse:
        return "-", f"{offset - 1}-0" if offset else "0-0"
    return f"{offset + 1}-0", "+"
