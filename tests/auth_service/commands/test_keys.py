"""The commands `auth-service keys`."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from auth_service import cli
from auth_service.keys import files as key_files
from auth_service.keys import rotation
from auth_service.keys.files import KeyDirectory
from auth_service.keys.key import Algorithm, read
from auth_service.keys.ring import Keyring, times_of
from auth_service.keys.schedule import FIRST
from auth_service.settings import AuthSettings
from auth_service.store import migrated


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    return tmp_path / "auth_keys"


@pytest.fixture(name="run")
def _run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `auth-service keys` in an empty folder; logs are not in what is returned."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("auth_service.keys.rotation.NOTICE_SECONDS", 0)
    monkeypatch.setattr("auth_service.log.configure", lambda: None)
    monkeypatch.setenv("AUTH_AUDIT_FILE", str(tmp_path / "audit"))

    def run(*words: str) -> Ran:
        before = os.umask(0o077)
        monkeypatch.setattr(sys, "argv", ["auth-service", "keys", *words])
        code = 0
        try:
            with capture_logs():
                cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            os.umask(before)
        printed = capsys.readouterr()
        return Ran(code, printed.out, printed.err)

    return run


def ids(folder: Path) -> dict[str, str]:
    """Return key ids by the name of their file."""
    return {it.name: read(it.read_bytes()).key_id for it in sorted(folder.iterdir())}


def ordered(tmp_path: Path) -> set[tuple[str, str]]:
    """Return what the gateway is to be told."""
    connection = sqlite3.connect(tmp_path / "auth.db")
    try:
        rows = connection.execute("SELECT kind, value, until - made_at FROM closures").fetchall()
    finally:
        connection.close()
    assert all(left == pytest.approx(86400) for *_, left in rows)
    return {(kind, value) for kind, value, _ in rows}


def audited(tmp_path: Path) -> list[str]:
    """Return the events of the audit log."""
    return [line.partition('"action":"')[2].partition('"')[0] for line in (tmp_path / "audit").read_text().splitlines()]


def test_keys_follow_each_other_by_hand(run: Run, folder: Path, tmp_path: Path) -> None:
    """The first signs at once, the next when everybody can know it; a third has to wait; the list shows all that."""
    assert "no keys: the first one is made when the service starts\n" == run("list").out
    assert not folder.exists()
    first = run("rotate")
    key_id = ids(folder)[FIRST]
    assert first.out.startswith(f"{key_id} (EdDSA) signs from ")
    second = run("rotate", "--algorithm", "ES256")
    (name,) = ids(folder).keys() - {FIRST}
    assert 600 <= int(name.removesuffix(".pem")) - time.time() + 30 <= 720
    assert second.out.startswith(f"{ids(folder)[name]} (ES256) signs from ")
    third = run("rotate")
    assert (1, "") == (third.code, third.out)
    assert f"auth-service: auth_keys/{name} is the next key already, and signs in " in third.err
    head, *rows = run("list").out.splitlines()
    assert ["KEY", "ID", "ALGORITHM", "STATE", "FILE"] == head.split()
    assert [(key_id, "EdDSA", "since", FIRST), (ids(folder)[name], "ES256", "from", name)] == [
        (row.split()[0], row.split()[1], row.split()[3], row.split()[-1]) for row in rows
    ]
    assert ["key_made", "key_made"] == audited(tmp_path)
    assert not (tmp_path / "auth.db").exists()


def test_a_key_that_is_followed_verifies_for_a_while(run: Run, folder: Path) -> None:
    """The list tells until when, and which are retired; an operator's key that is alone signs before its time."""
    now = int(time.time())
    times = times_of(AuthSettings())
    directory = KeyDirectory(folder, times, clock=time.time)
    for second in (now - 3000, now - 2000, now - 100):
        directory.make(f"{second}.pem", Algorithm.EDDSA)
        os.utime(folder / f"{second}.pem", (second, second))
    states = [line.split()[2] for line in run("list").out.splitlines()[1:]]
    assert ["retired", "verifies", "signs"] == states
    for file in folder.iterdir():
        file.rename(folder.parent / "own.pem")
    (folder.parent / "own.pem").rename(folder / "own.pem")
    os.utime(folder / "own.pem")
    assert "signs, for want of another" in run("list").out


@pytest.fixture(name="database")
def _database(tmp_path: Path) -> None:
    """Make the tables, as a service has that runs."""
    asyncio.run(migrated(f"sqlite:///{tmp_path}/auth.db"))


@pytest.mark.usefixtures("database")
def test_an_emergency_drops_all_keys(run: Run, folder: Path, tmp_path: Path) -> None:
    """One new key is left, which a running service signs with from its next look on; the gateway is told of the old."""
    running = Keyring(folder, times_of(AuthSettings()), clock=time.time)
    running.open()
    run("rotate", "--algorithm", "ES256")
    running.tend()
    before = ids(folder)
    assert 2 == len(before) == len(running.jwks()["keys"])
    done = run("rotate", "--now")
    (name,) = ids(folder)
    assert (0, "") == (done.code, done.err)
    assert done.out.startswith(f"{ids(folder)[name]} (ES256) signs from ")
    assert {f"{it} is dropped" for it in before.values()} == set(done.out.splitlines()[1:])
    assert {("kid", it) for it in before.values()} == ordered(tmp_path)
    assert ["key_made", "key_made", "key_dropped", "key_dropped"] == audited(tmp_path)
    running.tend()
    assert ids(folder)[name] == running.signer().key_id
    assert [ids(folder)[name]] == [it["kid"] for it in running.jwks()["keys"]]
    assert not any(map(running.find, before.values()))


def test_an_emergency_in_an_empty_folder(run: Run, folder: Path) -> None:
    """There is nothing to drop, and a key afterwards, of the kind that was asked for."""
    done = run("rotate", "--now", "--algorithm", "ES256")
    assert (0, 1, 1) == (done.code, len(done.out.splitlines()), len(ids(folder)))
    assert "(ES256)" in done.out
    assert "(EdDSA)" in run("rotate", "--now", "--algorithm", "EdDSA").out


def test_an_emergency_without_a_database(run: Run, folder: Path, tmp_path: Path) -> None:
    """The keys are replaced all the same; the operator is told whom to tell, and of what."""
    run("rotate")
    key_id = ids(folder)[FIRST]
    (tmp_path / "auth.db").mkdir()
    done = run("rotate", "--now")
    assert 1 == done.code
    assert FIRST not in ids(folder)
    assert f"no gateway is told of {key_id} (the database " in done.err
    assert '{"kid": "<key id>"}' in done.err
    assert 1 == len(done.err.splitlines())
    assert ["key_made", "key_made", "key_dropped"] == audited(tmp_path)


def test_an_emergency_beside_the_database(run: Run, folder: Path, tmp_path: Path) -> None:
    """Where no service has its tables, none are made: an order there would reach no gateway, and nobody would know."""
    run("rotate")
    key_id = ids(folder)[FIRST]
    done = run("rotate", "--now")
    assert 1 == done.code
    assert FIRST not in ids(folder)
    assert f"no gateway is told of {key_id} (the tables of " in done.err
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        ordered(tmp_path)


@pytest.mark.usefixtures("database")
def test_an_emergency_with_a_broken_file(run: Run, folder: Path, tmp_path: Path) -> None:
    """It goes, too: a service that runs still has its key. Which one that was is for the operator to say."""
    run("rotate")
    key_id = ids(folder)[FIRST]
    (folder / "broken.pem").write_text("")
    listed = run("list")
    assert (1, 2) == (listed.code, len(listed.out.splitlines()))
    assert "broken.pem holds no unencrypted private key" in listed.err
    refused = run("rotate")
    assert (1, "") == (refused.code, refused.out)
    assert "broken.pem holds no unencrypted private key" in refused.err
    done = run("rotate", "--now")
    assert (1, 1) == (done.code, len(ids(folder)))
    assert "no gateway is told of broken.pem:" in done.err
    assert {("kid", key_id)} == ordered(tmp_path)


@pytest.mark.parametrize(
    ("words", "method", "says"),
    [
        (["rotate"], "make", "no key can be made in auth_keys: Read-only file system"),
        (["rotate", "--now"], "make", "no key can be made in auth_keys: Read-only file system"),
        (["rotate", "--now"], "remove", "auth_keys/first.pem cannot be removed: Read-only file system"),
        (["list"], "contents", "the key directory auth_keys cannot be read: Read-only file system"),
    ],
)
def test_what_the_folder_does_not_allow_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: list[str], method: str, says: str
) -> None:
    """A mounted secret is changed by other means."""
    run("rotate")

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(key_files.KeyDirectory, method, refuse)
    refused = run(*words)
    assert (1, f"auth-service: {says}\n") == (refused.code, refused.err)


def test_two_emergencies_at_once_leave_a_key(folder: Path) -> None:
    """Each drops what was there before it, so the last one's key stays, whoever is slower."""
    directory = KeyDirectory(folder, times_of(AuthSettings()), clock=time.time)
    rotation.add_next(directory, times_of(AuthSettings()), time.time(), None)
    one = rotation.replace_all(directory, time.time(), None)
    other = rotation.replace_all(directory, time.time(), None)
    rotation.remove(directory, other)
    rotation.remove(directory, one)
    assert {other.made.file.name: other.made.key.key_id} == ids(folder)
