"""What is counted and logged of connections: their messages, recoveries, and one canonical line at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from gateway import errors
from gateway.contracts.recorder import Recorder
from gateway.disconnects import TOO_MANY_ERRORS, TOO_MANY_REQUESTS, Disconnect
from gateway.errors import ErrorReply
from gateway.protocol.messages import (
    Command,
    ExpiringPush,
    JoinPush,
    LeavePush,
    PingPush,
    PublicationPush,
    Push,
    Reply,
    SubscribeResult,
    UnsubscribePush,
)

if TYPE_CHECKING:
    from gateway.connection import Connection

log = structlog.get_logger(__name__)

PUSHES: Final[dict[type[Push], str]] = {
    PublicationPush: "publication",
    JoinPush: "join",
    LeavePush: "leave",
    UnsubscribePush: "unsubscribe",
    ExpiringPush: "expiring",
    PingPush: "ping",
}
NO_CLOSE_FRAME: Final = 1006  # RFC 6455 section 7.1.5


def count_command(recorder: Recorder, command: Command) -> None:
    """Count a command of a client."""
    recorder.count("messages_received", type(command).__name__.lower())


def count_sent(recorder: Recorder, message: Reply | Push) -> None:
    """Count a message to one client, and what it says of recoveries and limits."""
    if not isinstance(message, Reply):
        recorder.count("messages_sent", PUSHES[type(message)])
        return
    result = message.result
    if isinstance(result, ErrorReply):
        recorder.count("messages_sent", "error")
        if result.code == errors.TOO_MANY_REQUESTS.code:
            recorder.count("rate_limited", "command")
        return
    recorder.count("messages_sent", "reply")
    if isinstance(result, SubscribeResult) and result.was_recovering:
        _count_recovery(recorder, result)


def _count_recovery(recorder: Recorder, result: SubscribeResult) -> None:
    if not result.recovered:
        recorder.count("recoveries", "failed")
        return
    recorder.count("recoveries", "full" if result.publications else "empty")
    recorder.observe("recovered_messages", len(result.publications))


def count_close(recorder: Recorder, disconnect: Disconnect) -> None:
    """Count that a connection is closed for coming too fast, or with too much that is wrong."""
    if disconnect is TOO_MANY_REQUESTS:
        recorder.count("rate_limited", "command")
    elif disconnect is TOO_MANY_ERRORS:
        recorder.count("rate_limited", "error")


def end(connection: Connection, code: int | None, initiator: str) -> None:
    """Count the end of a connection and write its one line."""
    recorder, clock = connection.shell.recorder, connection.shell.clock
    duration = clock.monotonic() - connection.opened_at
    recorder.count("disconnects", f"{code or NO_CLOSE_FRAME}:{initiator}")
    recorder.observe("connection_duration", duration)
    log.info(
        "connection.closed",
        connection=connection.id,
        request_id=connection.transport.peer.request_id,
        codec=connection.group.codec.name,
        code=code,
        initiator=initiator,
        duration=round(duration, 3),
        received=connection.received_count,
        sent=connection.sent_count,
    )
