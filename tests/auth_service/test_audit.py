"""What is audited, in which form, and that it names nobody and holds no secret."""

from __future__ import annotations

import ast
import errno
import json
import os
import threading
from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from auth_service.audit import EVENTS, Audit
from auth_service.errors import OperatorError
from auth_service.metrics import Metrics
from tests.support.clock import ManualClock
from tests.support.deadlines import PATIENCE

PACKAGE = Path(__file__).parent.parent.parent / "auth_service"
FIELDS = {"timestamp": str, "action": str, "result": str, "user": str, "session": str, "address": str, "more": dict}
TOKEN = "rt_" + "A" * 43


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture(name="metrics")
def _metrics() -> Metrics:
    return Metrics()


@pytest.fixture(name="audit")
def _audit(file: Path, metrics: Metrics, clock: ManualClock) -> Audit:
    return Audit(metrics=metrics, file=file, clock=clock.wall)


def lines(file: Path) -> list[dict[str, Any]]:
    """Return the events of the file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def counted(metrics: Metrics, action: str, result: str) -> float | None:
    """Return how often this was counted."""
    return metrics.registry.get_sample_value("auth_audit_events_total", {"action": action, "result": result})


@pytest.mark.parametrize("action", EVENTS)
def test_every_event_has_the_same_fields(audit: Audit, file: Path, metrics: Metrics, action: str) -> None:
    """In the file and in the log, for each result; names are hashed, times are UTC, and each is counted."""
    results = EVENTS[action].results.split()
    with capture_logs() as logs:
        for result in results:
            audit.note(action, result=result, user="Alice", session="s1", address="127.0.0.1", key="k1")
    for line, event, result in zip(lines(file), logs, results, strict=True):
        assert FIELDS == {name: type(value) for name, value in line.items()}
        assert "2027-01-15T08:00:00.000Z" == line.pop("timestamp")
        assert datetime.fromisoformat("2027-01-15T08:00:00.000Z").timestamp() == ManualClock().wall()
        assert line == {name: event[name] for name in line}
        assert (action, result, "127.0.0.1", {"key": "k1"}) == tuple(
            line[name] for name in ("action", "result", "address", "more")
        )
        assert sha256(b"alice").hexdigest()[:12] == line["user"]
        assert sha256(b"s1").hexdigest()[:12] == line["session"]
        assert ("auth.audit", "info") == (event["event"], event["log_level"])
        assert 1.0 == counted(metrics, action, result)


def test_who_and_where_may_be_unknown(audit: Audit, file: Path) -> None:
    """Then the fields are there, and empty."""
    audit.note("key_made", result="ok")
    assert [("", "", "", {})] == [
        tuple(it[name] for name in ("user", "session", "address", "more")) for it in lines(file)
    ]


@pytest.mark.parametrize("more", [{"token": "x9x9x9"}, {"why": f"sent {TOKEN}x9"}, {"url": "http://a:x9x9x9@b/"}])
def test_a_secret_that_strays_in_is_taken_out(audit: Audit, file: Path, more: dict[str, str]) -> None:
    """By its name or by its looks, in the file as in the log; what forges a line is escaped."""
    with capture_logs() as logs:
        audit.note("login", result="ok", address='"}\n{"action":"forged"}', user="\ud800", **more)
    assert 1 == len(lines(file))
    for text in (file.read_text(encoding="utf-8"), str(logs)):
        assert "x9" not in text
        assert TOKEN not in text


def test_words_that_nobody_foresaw_make_no_series(audit: Audit, file: Path, metrics: Metrics) -> None:
    """They are recorded as they are, and counted as `other`."""
    audit.note("surprise", result="strange")
    assert ("surprise", "strange") == (lines(file)[0]["action"], lines(file)[0]["result"])
    assert 1.0 == counted(metrics, "other", "other")


def test_the_file_is_ours_alone_and_goes_on(file: Path, metrics: Metrics, clock: ManualClock) -> None:
    """Mode 0600 whatever the umask; what is there stays; moved away, it is made anew."""
    before = os.umask(0)
    try:
        for _ in range(2):
            Audit(metrics=metrics, file=file, clock=clock.wall).note("login", result="ok")
        assert (0o600, 2) == (file.stat().st_mode & 0o777, len(lines(file)))
        audit = Audit(metrics=metrics, file=file, clock=clock.wall)
        file.rename(file.with_suffix(".1"))
        audit.note("login", result="ok")
    finally:
        os.umask(before)
    assert (0o600, 1) == (file.stat().st_mode & 0o777, len(lines(file)))


def test_several_writers_share_the_file(file: Path, metrics: Metrics, clock: ManualClock) -> None:
    """No line is torn or lost, though two write at once."""

    def write(name: str) -> None:
        audit = Audit(metrics=metrics, file=file, clock=clock.wall)
        for _ in range(200):
            audit.note("login", result="ok", reason=name * 300)

    writers = [threading.Thread(target=write, args=(name,), daemon=True) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(PATIENCE)
        assert not writer.is_alive(), "one waits for the other for ever"
    assert ["a", "b"] == sorted({line["more"]["reason"][0] for line in lines(file)})
    assert 400 == len(lines(file))


def test_a_file_that_others_may_read_is_warned_of(file: Path, metrics: Metrics, clock: ManualClock) -> None:
    """It is not ours to change; the operator hears of it."""
    file.touch(0o644)
    with capture_logs() as logs:
        Audit(metrics=metrics, file=file, clock=clock.wall)
    assert [("audit.readable_by_others", "644")] == [(it["event"], it["mode"]) for it in logs]


def test_a_file_that_cannot_be_written_stops_the_start(tmp_path: Path, metrics: Metrics, clock: ManualClock) -> None:
    """Whoever asks for an audit file shall not learn later that there is none."""
    with pytest.raises(OperatorError, match=r"AUTH_AUDIT_FILE .*/absent/audit cannot be written: No such file"):
        Audit(metrics=metrics, file=tmp_path / "absent" / "audit", clock=clock.wall)


def test_a_full_disk_loses_no_event(
    audit: Audit, file: Path, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be written is in the log and counted; half a line does not spoil the next."""
    write = os.write

    def torn(descriptor: int, data: bytes) -> int:
        return write(descriptor, data[:20])

    def full(_descriptor: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with capture_logs() as logs:
        for broken in (torn, full):
            monkeypatch.setattr(os, "write", broken)
            audit.note("login", result="ok")
        monkeypatch.setattr(os, "write", write)
        audit.note("logout", result="ok")
    assert ["auth.audit", "audit.unwritable"] * 2 + ["auth.audit"] == [it["event"] for it in logs]
    assert ["no space is left", "No space left on device"] == [it["why"] for it in logs if "why" in it]
    assert 2.0 == metrics.registry.get_sample_value("auth_audit_lost_total")
    half, whole = file.read_text(encoding="utf-8").splitlines()
    assert (20, "logout") == (len(half), json.loads(whole)["action"])


def noted() -> Iterator[tuple[str, ast.Call]]:
    """Yield file and call of everything that is audited in the source."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "note":
                yield path.name, node


def constants(tree: ast.expr) -> set[str]:
    """Return the words in an expression."""
    return {it.value for it in ast.walk(tree) if isinstance(it, ast.Constant) and isinstance(it.value, str)}


def test_the_source_audits_what_the_table_says() -> None:
    """Every call names an event of the table and one of its results; what a variable names is counted in tests."""
    calls = list(noted())
    assert len(calls) >= 2
    for name, call in calls:
        (event,) = call.args
        (result,) = [it.value for it in call.keywords if it.arg == "result"]
        words = constants(event)
        assert words <= EVENTS.keys(), f"{name}:{call.lineno}"
        known = {it for word in words for it in EVENTS[word].results.split()}
        assert not words or constants(result) <= known, f"{name}:{call.lineno}"
