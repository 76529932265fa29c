"""What is counted and logged of connections: their messages, recoveries, and one canonical line at the end."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, get_args

import structlog

from gateway import errors
from gateway.contracts.recorder import Recorder
from gateway.disconnects import CONNECTION_LIMIT, TOO_MANY_ERRORS, TOO_MANY_REQUESTS, Disconnect
from gateway.errors import ErrorReply
from gateway.protocol.effects import Denied
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
from gateway.types import UserId

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
_COMMANDS: Final[dict[type[Command], str]] = {it: it.__name__.lower() for it in get_args(Command)}
NO_CLOSE_FRAME: Final = 1006  # RFC 6455 section 7.1.5


def count_command(recorder: Recorder, command: Command) -> None:
    """Count a command of a client."""
    recorder.count("messages_received", _COMMANDS[type(command)])


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
    if type(result) is SubscribeResult and result.was_recovering:
        _count_recovery(recorder, result)


def _count_recovery(recorder: Recorder, result: SubscribeResult) -> None:
    if not result.recovered:
        recorder.count("recoveries", "failed")
        return
    recorder.count("recoveries", "full" if result.publications else "empty")
    recorder.observe("recovered_messages", len(result.publications))


def count_close(recorder: Recorder, disconnect: Disconnect) -> None:
    """Count that a connection is closed for coming too fast, too often, or with too much that is wrong."""
    if disconnect is TOO_MANY_REQUESTS:
        recorder.count("rate_limited", "command")
    elif disconnect is TOO_MANY_ERRORS:
        recorder.count("rate_limited", "error")
    elif disconnect == CONNECTION_LIMIT:  # by an order of another node: equal, not the same
        recorder.count("handshakes", "limit_user")


def denied(connection: Connection, effect: Denied) -> None:
    """Count an attempt at what is not permitted, and write it down unless there are too many."""
    shell = connection.shell
    shell.recorder.count("permission_denied", effect.action)
    unwritten = shell.denials.take(connection.id, shell.clock.monotonic())
    if unwritten is not None:
        log.warning(
            "permission.denied",
            action=effect.action,
            namespace=effect.namespace,
            user=_told_apart(connection.user),
            connection=connection.id,
            request_id=connection.transport.peer.request_id,
            unwritten=unwritten,
        )


def _told_apart(user: UserId) -> str:
    """Return what tells users apart and does not name them, as in the audit log of the auth service."""
    return hashlib.sha256(user.encode(errors="surrogatepass")).hexdigest()[:12] if user else ""


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
        denied=connection.shell.denials.forget(connection.id),
    )
