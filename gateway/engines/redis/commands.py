"""Control commands: a channel with history, read by every node from where it started, so that none is missed."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from gateway.contracts.broker import Done
from gateway.contracts.recorder import Recorder
from gateway.engines.redis.broker import RedisBroker
from gateway.engines.redis.history import RedisHistory
from gateway.engines.redis.revocations import Revocations, Rewritten
from gateway.errors import EngineFault
from gateway.protocol.messages import ControlCommand, Revoke
from gateway.protocol.values import HistoryPage, HistoryQuery, Published, PublishOptions
from gateway.types import Channel, Position, Publication

COMMANDS: Final = Channel("commands")
KEPT: Final = 1000  # commands; a node that missed more has been away for longer than its clients stay
KEPT_SECONDS: Final = 3600.0
META_SECONDS: Final = 30 * 24 * 3600.0
IN_STREAM: Final = PublishOptions(history_size=KEPT, history_ttl=KEPT_SECONDS, history_meta_ttl=META_SECONDS)
IN_PASSING: Final = PublishOptions()
REMEMBERED: Final = 4 * KEPT  # ids of commands that were carried out
QUIET: Final = 30.0  # seconds without a word, and the stream is asked: a message may get lost without a trace

log = structlog.get_logger(__name__)


class Commands:
    """Carries out each command once, in order of arrival; `carry_out` is the node's."""

    def __init__(
        self,
        broker: RedisBroker,
        history: RedisHistory,
        revocations: Revocations,
        *,
        carry_out: Callable[[ControlCommand], None],
        clock: Callable[[], float],
        recorder: Recorder,
    ) -> None:
        self._broker = broker
        self._history = history
        self._revocations = revocations
        revocations.wrote = self._tell_rewritten
        self._carry_out = carry_out
        self._clock = clock
        self._recorder = recorder
        self._decode = msgspec.json.Decoder(ControlCommand | Rewritten).decode
        self._position: Position | None = None  # up to here everything was carried out
        self._seen: dict[str, None] = {}  # ids, oldest first
        self._reading = False
        self._stale = False  # `fall_behind` was called since the read was sent
        self._heard_at = 0.0  # when a command came in or a read was answered
        self.caught_up = asyncio.Event()  # set once this node knows where it stands in the stream

    @property
    def started(self) -> bool:
        """Whether this node has found its place in the stream, so that it misses none from there on."""
        return self._position is not None

    def send(self, command: ControlCommand, done: Done[None]) -> None:
        """Store a command and tell every node; a revocation is put into the set before, for those who start later."""
        if not isinstance(command, Revoke):
            self._publish(command, IN_STREAM, done)
            return

        def stored(outcome: EngineFault | None) -> None:
            if outcome is None:
                self._publish(command, IN_STREAM, published)
            else:
                done(outcome)

        def published(outcome: EngineFault | None) -> None:
            if outcome is not None and outcome.kind == "oom":
                self._publish(command, IN_PASSING, done)  # a full server has taken it into the set, and that will do
            else:
                done(outcome)

        self._revocations.store(command, stored)

    def _publish(self, command: ControlCommand | Rewritten, options: PublishOptions, done: Done[None]) -> None:
        def stored(outcome: Published | EngineFault) -> None:
            done(outcome if isinstance(outcome, EngineFault) else None)

        self._broker.publish(COMMANDS, msgspec.json.encode(command), options, stored)

    def arrived(self, publication: Publication) -> None:
        """Take a command; one that does not follow the last means that some were missed."""
        self._heard_at = self._clock()
        self._apply(publication)
        position = self._position
        if position is None or self._reading:
            return
        if publication.epoch != position.epoch or publication.offset > position.offset + 1:
            self.fall_behind()
            self.catch_up()
        elif publication.offset == position.offset + 1:
            position.offset = publication.offset

    def fall_behind(self) -> None:
        """Note that commands may have been missed up to now; a read already under way does not settle that."""
        self.caught_up.clear()
        self._stale = True

    def check(self) -> None:
        """Doubt the silence if it has lasted; `catch_up` follows."""
        if self.started and self._clock() - self._heard_at >= QUIET:
            self.fall_behind()

    def catch_up(self) -> None:
        """Read what may have been missed; at the start, only learn where the stream stands. Then, the revocations."""
        if self._reading:
            return
        if self.caught_up.is_set():
            self._revocations.catch_up()
            return
        self._reading, self._stale = True, False
        limit = 0 if self._position is None else -1
        self._history.read(COMMANDS, HistoryQuery(limit, self._position, meta_ttl=META_SECONDS), self._read)

    # --- inside

    def _read(self, page: HistoryPage | EngineFault) -> None:
        self._reading = False
        if isinstance(page, EngineFault):
            return  # whoever calls `catch_up` next tries again
        self._heard_at = self._clock()
        known = self._position
        if known is not None and known.epoch != page.top.epoch:
            log.warning("redis.commands_anew", after=known.offset)
            self._revocations.doubt()
            self._position = Position(0, page.top.epoch)  # a new stream: all of it came after us
            self.catch_up()
            return
        if known is not None and page.publications and page.publications[0].offset > known.offset + 1:
            log.error("redis.commands_lost", missed=page.publications[0].offset - known.offset - 1)
            self._revocations.doubt()
        self._position = page.top
        for publication in page.publications:
            self._apply(publication)
        if self._stale:
            self.catch_up()
        else:
            self.caught_up.set()
            self._revocations.catch_up()

    def _apply(self, publication: Publication) -> None:
        try:
            command = self._decode(publication.data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:  # of a newer release, or not ours
            self._recorder.count("redis_foreign_payloads")
            log.warning("redis.unknown_command", why=str(error))
            return
        if command.id in self._seen:
            return
        self._seen[command.id] = None
        if len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        if isinstance(command, Rewritten):
            self._revocations.doubt()
            if self.caught_up.is_set():
                self._revocations.catch_up()
        elif not isinstance(command, Revoke) or self._revocations.learn(command, publication.data):
            self._carry_out(command)

    def _tell_rewritten(self) -> None:
        """Have everybody read the set again who may have read it too early; who lost anything by that asks again."""
        self._publish(Rewritten(id=uuid.uuid4().hex), IN_STREAM, lambda _outcome: None)
