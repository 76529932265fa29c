"""The audit log: one event for whatever changes or tries an account, a session or a key, without a secret or a name."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from auth_service.errors import OperatorError
from auth_service.log import redact
from auth_service.metrics import Metrics

log = structlog.get_logger(__name__)


class AuditRow(NamedTuple):
    """What one kind of event means, and what its results may be."""

    meaning: str
    results: str


EVENTS: Final[Mapping[str, AuditRow]] = {
    "login": AuditRow("Somebody logged in, or tried to.", "ok refused"),
    "register": AuditRow("Somebody registered, or asked for a name that is taken.", "ok taken refused"),
    "refresh": AuditRow("A refresh token was exchanged for new tokens, or was not good.", "ok refused"),
    "refresh_reuse": AuditRow("A used refresh token came back: theft; the whole session was ended.", "ended"),
    "logout": AuditRow("A user ended a session, or all of them.", "ok"),
    "session_revoked": AuditRow("A session was ended from another one, or by an operator.", "ok refused"),
    "password_changed": AuditRow("A password was changed; the user's other sessions were ended.", "ok refused"),
    "user_added": AuditRow("An operator added a user.", "ok"),
    "user_changed": AuditRow("An operator changed a user's roles or claims.", "ok"),
    "user_disabled": AuditRow("An operator disabled a user; all sessions were ended.", "ok"),
    "user_enabled": AuditRow("An operator enabled a user again.", "ok"),
    "key_made": AuditRow("A signing key was made, by schedule or by an operator.", "ok"),
    "key_dropped": AuditRow("A signing key was taken out of use: its time was over, or in an emergency.", "ok"),
    "token_subscription": AuditRow("A subscription token was asked for.", "ok refused"),
    "ticket": AuditRow("A one-time ticket was asked for.", "ok refused"),
    "throttled": AuditRow("An attempt was turned away unread: too many had failed.", "refused"),
    "gateway_told": AuditRow("The gateway has taken note that a session, key or user is barred.", "ok"),
    "gateway_given_up": AuditRow("It never did; the tokens concerned have expired by now.", "failed"),
}
RESULTS: Final = frozenset(result for row in EVENTS.values() for result in row.results.split())


class Audit:
    """Writes the events to the log, to a file if there is one, and counts them. `clock` returns the Unix time.

    The file is made with mode 0600 and appended to, one JSON object a line, with a single write each: several
    processes may share it. It is opened anew for each event, so it may be moved away or shortened at any time.
    An event that cannot be written there is counted and still in the log; what was audited is not undone.
    """

    def __init__(self, *, metrics: Metrics, file: Path | None = None, clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._file = file
        self._clock = clock
        self._torn = False  # the last line has no end
        if file is not None:
            _probe(file)

    def note(
        self, event: str, *, result: str, user: str = "", address: str = "", session: str = "", **more: str
    ) -> None:
        """Record an event of the table. User and session are hashed here; `more` must not name either."""
        known = event if event in EVENTS else "other"
        self._metrics.audited.labels(known, result if result in RESULTS else "other").inc()
        record = redact(
            None,
            "info",
            {
                "action": event,
                "result": result,
                "user": masked(user.lower()),  # as it was typed or as it is stored: one user
                "session": masked(session),
                "address": address,
                "more": more,
            },
        )
        log.info(
            "auth.audit",
            action=record["action"],
            result=record["result"],
            user=record["user"],
            session=record["session"],
            address=record["address"],
            more=record["more"],
        )
        if self._file is not None:
            self._write(self._file, record)

    def _write(self, file: Path, record: Mapping[str, object]) -> None:
        time = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = json.dumps({"timestamp": time, **record}, separators=(",", ":")).encode() + b"\n"
        whole = b"\n" * self._torn + line
        try:
            written = _append(file, whole)
        except OSError as error:
            self._lost(error.strerror or type(error).__name__)
            return
        self._torn = written != len(whole)
        if self._torn:
            self._lost("no space is left")

    def _lost(self, why: str) -> None:
        self._metrics.audit_lost.inc()
        log.error("audit.unwritable", why=why)


def masked(name: str) -> str:
    """Return what tells two users or sessions apart in a log, and names neither; empty for none."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12] if name else ""


def _append(file: Path, data: bytes) -> int:
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        return os.write(descriptor, data)
    finally:
        os.close(descriptor)


def _probe(file: Path) -> None:
    try:
        _append(file, b"")
    except OSError as error:
        raise OperatorError(f"AUTH_AUDIT_FILE {file} cannot be written: {error.strerror}") from None
    mode = file.stat().st_mode & 0o777
    if mode & 0o077:
        log.warning("audit.readable_by_others", file=str(file), mode=f"{mode:03o}")
