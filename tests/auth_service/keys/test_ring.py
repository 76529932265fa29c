"""The keyring and its directory: real files, and a clock to turn."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from auth_service.audit import Audit
from auth_service.errors import OperatorError
from auth_service.keys import ring as keyring_module
from auth_service.keys.key import Algorithm, generate, read
from auth_service.keys.ring import Keyring, times_of
from auth_service.keys.schedule import Times
from auth_service.metrics import Metrics
from auth_service.settings import AuthSettings, load
from tests.support.clock import ManualClock

TIMES = Times(publish_ahead=600, rotation=86400, outlives=660)
NOW = 1_800_000_000

Opened = Callable[..., Keyring]


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture(name="opened")
def _opened(folder: Path, clock: ManualClock) -> Opened:
    def opened(times: Times = TIMES, audit: Audit | None = None) -> Keyring:
        keyring = Keyring(folder, times, clock=clock.wall, audit=audit)
        keyring.open()
        return keyring

    return opened


def put(path: Path, *, age: float = 0, algorithm: Algorithm = Algorithm.EDDSA, mode: int = 0o600) -> str:
    """Write a key as an operator does, so many seconds ago; return its id."""
    path.parent.mkdir(exist_ok=True)
    pem = generate(algorithm)
    path.write_bytes(pem)
    path.chmod(mode)
    os.utime(path, (NOW - age, NOW - age))
    return read(pem).key_id


def names(folder: Path) -> list[str]:
    """Return the names of all files, drafts included."""
    return sorted(it.name for it in folder.iterdir())


# --- the first key


def test_the_first_key_is_made_once_and_for_its_owner_only(opened: Opened, folder: Path) -> None:
    """The first start makes an Ed25519 key that nobody else can read; the second finds it; no draft is left over."""
    first = opened()
    assert ["first.pem"] == names(folder)
    assert (0o700, 0o600) == tuple(it.stat().st_mode & 0o777 for it in (folder, folder / "first.pem"))
    assert "EdDSA" == first.signer().algorithm
    assert first.jwks() == opened().jwks()
    assert [first.signer().key_id] == [it["kid"] for it in first.jwks()["keys"]]
    assert 0 == first.age()


def test_replicas_that_start_at_once_agree(folder: Path, clock: ManualClock) -> None:
    """Whoever is first makes the key, all others take it."""
    ids: list[str] = []
    barrier = threading.Barrier(8)

    def start() -> None:
        keyring = Keyring(folder, TIMES, clock=clock.wall)
        barrier.wait(10)
        keyring.open()
        ids.append(keyring.signer().key_id)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert 8 == len(ids)
    assert 1 == len(set(ids))
    assert ["first.pem"] == names(folder)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("first.pem", b"", "holds no unencrypted private key"),
        ("1000.pem", b"rubbish", "holds no unencrypted private key"),
        ("own.pem", None, "cannot be read: Is a directory"),
    ],
)
def test_a_broken_file_stops_the_start(
    opened: Opened, folder: Path, name: str, content: bytes | None, why: str
) -> None:
    """One line names the file; it is never written over, and no other key is made in its place."""
    put(folder / "0.pem")
    if content is None:
        (folder / name).mkdir()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(OperatorError, match=f"the key file {folder / name} {why}"):
        opened()
    assert ["0.pem", name] == names(folder)
    assert content is None or content == (folder / name).read_bytes()


def test_a_place_that_cannot_hold_keys(opened: Opened, folder: Path) -> None:
    """No folder can be made inside a file, nor be one."""
    folder.parent.mkdir(exist_ok=True)
    folder.touch()
    with pytest.raises(OperatorError, match=f"the key directory {folder} cannot be read or written: Not a directory"):
        opened()


def test_others_who_may_read_are_warned_of_once(opened: Opened, folder: Path) -> None:
    """A key that others can read works (secrets are mounted so), but is mentioned."""
    put(folder / "own.pem", mode=0o644)
    with capture_logs() as logs:
        opened().tend()
    assert [("key.readable_by_others", "0o644")] == [(line["event"], line["mode"]) for line in logs]


# --- a life


def test_a_key_is_followed_by_the_next_in_time(
    opened: Opened, folder: Path, clock: ManualClock, tmp_path: Path
) -> None:
    """Made and published ten minutes before it signs; the old one goes when its last token has expired."""
    audit = Audit(metrics=Metrics(), file=tmp_path / "audit", clock=clock.wall)
    keyring = opened(audit=audit)
    first = keyring.signer()
    clock.advance(86400 - 661)
    keyring.tend()
    assert [first.jwk] == keyring.jwks()["keys"]
    clock.advance(1)
    keyring.tend()
    coming = keyring.published()[1]
    assert ([first.jwk, coming.key.jwk], first) == (keyring.jwks()["keys"], keyring.signer())
    assert ["1800086400.pem", "first.pem"] == names(folder)
    clock.advance(659.9)
    assert first == keyring.signer()
    clock.advance(0.1)
    assert (coming.key, first, 0.0) == (keyring.signer(), keyring.find(first.key_id), keyring.age())
    clock.advance(659.9)
    keyring.tend()
    assert [first.jwk, coming.key.jwk] == keyring.jwks()["keys"]
    clock.advance(0.1)
    assert ([coming.key.jwk], None) == (keyring.jwks()["keys"], keyring.find(first.key_id))
    keyring.tend()
    assert ["1800086400.pem"] == names(folder)
    events = [
        line.partition('"action":"')[2].partition('"')[0] for line in (tmp_path / "audit").read_text().split("\n")
    ]
    assert ["key_made", "key_made", "key_dropped", ""] == events


def test_the_next_key_has_the_algorithm_of_the_last(opened: Opened, folder: Path) -> None:
    """Who changed it once by hand need not do so again."""
    put(folder / f"{NOW - 86400}.pem", algorithm=Algorithm.ES256)
    keyring = opened()
    keyring.tend()
    assert [Algorithm.ES256, Algorithm.ES256] == [it.key.algorithm for it in keyring.published()]
    assert "1800000600.pem" in names(folder)


def test_of_several_replicas_one_makes_the_next_key(folder: Path, opened: Opened, clock: ManualClock) -> None:
    """The others take it; all publish it within a look, and sign with it from the same second."""
    replicas = [opened() for _ in range(3)]
    clock.advance(86400 - 600)
    for it in replicas * 2:
        it.tend()
    assert 2 == len(names(folder))
    assert 1 == len({str(it.jwks()) for it in replicas})
    before = {it.signer().key_id for it in replicas}
    clock.advance(600)
    after = {it.signer().key_id for it in replicas}
    assert (1, 1, set()) == (len(before), len(after), before & after)


def test_a_key_that_is_put_there_is_taken(opened: Opened, folder: Path, clock: ManualClock) -> None:
    """An operator's own key is published at the next look, signs in ten minutes, and is never followed or removed."""
    keyring = opened()
    own = put(folder / "own.pem")
    keyring.tend()
    assert {own} < {it["kid"] for it in keyring.jwks()["keys"]}
    assert own != keyring.signer().key_id
    clock.advance(600)
    assert own == keyring.signer().key_id
    clock.advance(10 * 86400)
    keyring.tend()
    assert [own] == [it["kid"] for it in keyring.jwks()["keys"]]
    assert ["own.pem"] == names(folder)


def test_a_key_in_two_files_is_published_once(opened: Opened, folder: Path) -> None:
    """A copy under another name changes nothing for those who verify."""
    put(folder / "0.pem")
    (folder / "1.pem").write_bytes((folder / "0.pem").read_bytes())
    assert 1 == len(opened().jwks()["keys"])


# --- trouble


def test_a_file_that_breaks_stays_the_key_it_was(opened: Opened, folder: Path) -> None:
    """Tokens are signed and checked as before; it is logged once, counted, and over when the file is whole again."""
    keyring = opened()
    whole = (folder / "first.pem").read_bytes()
    before = keyring.jwks()
    (folder / "first.pem").write_bytes(whole[:20])
    (folder / "0.pem").write_bytes(b"never one")
    with capture_logs() as logs:
        keyring.tend()
        keyring.tend()
    assert before == keyring.jwks()
    assert 2 == keyring.faults
    assert [
        f"the key file {folder / name} holds no unencrypted private key in PEM form" for name in ("0.pem", "first.pem")
    ] == [line["detail"] for line in logs]
    (folder / "first.pem").write_bytes(whole)
    os.utime(folder / "first.pem", (NOW, NOW))
    (folder / "0.pem").unlink()
    with capture_logs() as logs:
        keyring.tend()
    assert (before, 0) == (keyring.jwks(), keyring.faults)
    assert ["keys.sound_again"] == [line["event"] for line in logs]


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (lambda folder: folder.rename(folder.with_name("elsewhere")), "cannot be read: No such file"),
        (lambda folder: (folder / "first.pem").unlink(), "holds no key any more"),
    ],
    ids=["the folder", "all files"],
)
def test_keys_that_vanish_stay_in_use(opened: Opened, folder: Path, end: Callable[[Path], None], why: str) -> None:
    """An unmounted volume does not end the service: it goes on with the last good set and says so."""
    keyring = opened()
    before = keyring.jwks()
    end(folder)
    with capture_logs() as logs:
        keyring.tend()
        keyring.tend()
    assert (before, 1) == (keyring.jwks(), keyring.faults)
    (line,) = logs
    assert why in line["detail"]
    put(folder / "first.pem")
    keyring.tend()
    assert before != keyring.jwks()


def test_one_file_that_is_removed_is_a_key_that_is_gone(opened: Opened, folder: Path) -> None:
    """It is published and accepted no longer than until the next look."""
    gone = put(folder / f"{NOW - 20}.pem")
    put(folder / f"{NOW - 10}.pem")
    keyring = opened()
    keyring.tend()
    assert keyring.find(gone)
    (folder / f"{NOW - 20}.pem").unlink()
    keyring.tend()
    assert None is keyring.find(gone)
    assert 1 == len(keyring.jwks()["keys"])
    assert 0 == keyring.faults


def test_a_link_to_nowhere_is_no_key(opened: Opened, folder: Path) -> None:
    """A file that goes between the listing and the look at it is not there; no more than that."""
    keyring = opened()
    (folder / "own.pem").symlink_to(folder / "nowhere.pem")
    keyring.tend()
    assert (1, 0) == (len(keyring.published()), keyring.faults)


def test_a_directory_that_only_can_be_read(
    opened: Opened, folder: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mounted secret signs for as long as it takes: told once at the start, nothing is tried, nothing is a fault."""
    put(folder / f"{NOW - 10 * 86400}.pem")
    monkeypatch.setattr(os, "access", lambda path, mode: path != folder or not mode & os.W_OK)
    with capture_logs() as logs:
        keyring = opened()
        clock.advance(86400)
        keyring.tend()
    assert [("keys.read_only", "rotation is by hand")] == [(line["event"], line["then"]) for line in logs]
    assert (1, 0) == (len(names(folder)), keyring.faults)


def test_a_full_disk_is_tried_again(
    opened: Opened, folder: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that cannot be made is a fault, told once, until it can: a minute later, not each second."""
    put(folder / f"{NOW - 10 * 86400}.pem")
    keyring = opened()
    tries: list[object] = []

    def full(_: int) -> None:
        tries.append(None)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(os, "fsync", full)
        for _ in range(3):
            keyring.tend()
        clock.advance(60)
        keyring.tend()
    assert 2 == len(tries)
    assert [f"keys cannot be rotated in {folder}: No space left on device"] == [line["detail"] for line in logs]
    assert (1, 1) == (len(names(folder)), keyring.faults)
    clock.advance(60)
    keyring.tend()
    assert (2, 0) == (len(names(folder)), keyring.faults)


async def test_a_running_keyring_looks_by_itself(opened: Opened, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes what changes, whatever went wrong at the look before."""
    monkeypatch.setattr(keyring_module, "READ_SECONDS", 0.001)
    keyring = opened()
    looks = 0
    tend = keyring.tend

    def failing() -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise ValueError("unforeseen")
        tend()

    monkeypatch.setattr(Keyring, "tend", lambda _: failing())
    with capture_logs() as logs:
        task = asyncio.create_task(keyring.run())
        own = put(folder / "own.pem")
        async with asyncio.timeout(10):
            while keyring.find(own) is None:  # noqa: ASYNC110 - nothing would set an event
                await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait({task})
    assert ["keys.failed"] == [line["event"] for line in logs]


def test_the_times_follow_from_the_settings() -> None:
    """A key outlives the longest token that it may have signed, and clocks that differ."""
    chosen = AuthSettings(access_token_seconds=300, subscription_token_seconds=900)
    assert Times(publish_ahead=600, rotation=30 * 86400, outlives=960) == times_of(chosen)


@pytest.mark.parametrize(
    ("variables", "fault"),
    [
        ({"JWKS_MAX_AGE_SECONDS": "301"}, "KEY_PUBLISH_AHEAD_SECONDS: must be twice AUTH_JWKS_MAX_AGE_SECONDS"),
        ({"KEY_PUBLISH_AHEAD_SECONDS": "599"}, "KEY_PUBLISH_AHEAD_SECONDS: must be twice AUTH_JWKS_MAX_AGE_SECONDS"),
        ({"KEY_ROTATION_SECONDS": "1199"}, "KEY_ROTATION_SECONDS: must be 0, or twice AUTH_KEY_PUBLISH_AHEAD_SECONDS"),
        ({"KEY_ROTATION_SECONDS": "-1"}, "KEY_ROTATION_SECONDS: must be 0, or twice AUTH_KEY_PUBLISH_AHEAD_SECONDS"),
    ],
)
def test_times_that_would_refuse_good_tokens(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], fault: str
) -> None:
    """A key must be known to all before it signs, and at most one waits for its time."""
    for name, value in variables.items():
        monkeypatch.setenv(f"AUTH_{name}", value)
    with pytest.raises(OperatorError, match=f"AUTH_{fault}"):
        load()
    monkeypatch.setenv("AUTH_JWKS_MAX_AGE_SECONDS", "5")
    monkeypatch.setenv("AUTH_KEY_PUBLISH_AHEAD_SECONDS", "10")
    monkeypatch.setenv("AUTH_KEY_ROTATION_SECONDS", "20")
    assert 20 == load().key_rotation_seconds
