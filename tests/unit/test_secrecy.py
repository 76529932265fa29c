"""The guard of the logs: what it finds, what it leaves alone, and that it fails who leaks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.secrecy import PASSWORD, Scanner, passwords

ROOT = Path(__file__).parent.parent.parent
JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"
REFRESH = "rt_" + "aZ0-_" * 8 + "abc"
SECRET = "swordfish-" + "9" * 8


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (f'{{"event":"x","why":"{JWT}"}}', ["a JWT"]),
        (f"GET /ws?ticket={JWT}", ["a JWT", "a parameter"]),
        (f"refresh {REFRESH}", ["a refresh token"]),
        ("$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA", ["a hash of a password"]),
        ("authorization: Bearer 0123456789abcdef", ["a bearer"]),
        ("sec-websocket-protocol: centrifuge, bearer.0123456789abcdef", ["a bearer"]),
        ("GET /refresh?refresh_token=abcd HTTP/1.1", ["a parameter"]),
        (f"user typed {SECRET}!", ["a password"]),
        ("GET /ws?token=[redacted] HTTP/1.1", []),
        ('WWW-Authenticate: Bearer error="invalid_token"', []),
        ('{"event":"token.secret_short","bytes":12}', []),
        ("eyJ is how a JWT begins", []),
        ("wrong username or password", []),
    ],
)
def test_what_is_a_secret(text: str, what: list[str]) -> None:
    """By its looks or by its value; and a report does not tell it again."""
    found = [leak for _, leak in Scanner(values={SECRET.encode()}).leaks(text.encode(), "here")]
    assert what == [leak.what for leak in found]
    for leak in found:
        assert SECRET not in str(leak)
        assert JWT[:20] not in str(leak)


def test_only_what_is_new_is_read_and_nothing_twice(tmp_path: Path) -> None:
    """A secret that is written in two goes is found once; so is one in a log that began anew."""
    scanner, log = Scanner(), tmp_path / "folder" / "node.log"
    log.parent.mkdir()
    found = []
    for text in ("x" * 5000, JWT[:9], JWT[9:], "", "y" * 300):
        with log.open("a") as out:
            out.write(text)
        found.append([leak.what for leak in scanner.scan(log.parent)])
    log.write_text(JWT)
    found.append([leak.what for leak in scanner.scan(log.parent)])
    assert [[], [], ["a JWT"], [], [], ["a JWT"]] == found
    assert (1, 5000 + 300 + 2 * len(JWT)) == (scanner.files, scanner.size)
    log.unlink()  # it was one on purpose


def test_only_logs_are_read(tmp_path: Path) -> None:
    """Databases, keys and what commands print hold secrets by nature."""
    for name in ("auth.db", "token.txt", "secrets.json"):
        (tmp_path / name).write_text(f'"{JWT}"')
    (tmp_path / "a.log").mkdir()
    (tmp_path / "dangling.log").symlink_to(tmp_path / "absent")
    assert [] == list(Scanner().scan(tmp_path))


def test_the_secrets_of_a_demo_are_known(tmp_path: Path) -> None:
    """What lies beside its logs is not allowed in them."""
    (tmp_path / "secrets.json").write_text(f'{{"passwords": {{"alice": "{SECRET}"}}, "api_key": "k-{SECRET}"}}')
    scanner = Scanner()
    assert [] == list(scanner.scan(tmp_path))
    assert {SECRET.encode(), f"k-{SECRET}".encode()} == scanner.values


def test_passwords_of_tests_are_known(tmp_path: Path) -> None:
    """Constants, members of bodies and arguments; not names of fields, comparisons or short words."""
    source = tmp_path / "test_some.py"
    lines = (
        'PASSWORD = "constant-1"',
        '{"password": "member-1"}',
        'f(password="argument-1")',
        'x == {"password": "abc"}',
    )
    source.write_text("\n".join([*lines, 'assert new_password == "compared-1"', 'grant_type="password"']))
    assert {b"constant-1", b"member-1", b"argument-1"} == passwords([source])
    assert PASSWORD.search((ROOT / "tests" / "auth_service" / "conftest.py").read_text(encoding="utf-8"))


LEAKING = f"""
import pytest, sys
from tests.support import secrecy

JWT = "{JWT}"

@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    yield folder
    (folder / "end.log").write_text(JWT)

def test_silent(shared, tmp_path):
    (tmp_path / "node.log").write_text("fine")

def test_file(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "node.log").write_text(JWT)

def test_output():
    print(JWT, file=sys.stderr)

def test_result(tmp_path):
    (tmp_path / "printed.txt").write_text(JWT)

def test_shared(shared):
    (shared / "node.log").write_text(JWT)
    secrecy.LOOK_SECONDS = 0.0

def test_last(shared):
    secrecy.LOOK_SECONDS = 3600.0
"""
CONFTEST = """
import pytest
from tests.support.secrecy import Guard

def pytest_configure(config):
    config.pluginmanager.register(Guard(config), "secrecy")

@pytest.fixture(scope="session", autouse=True)
def _watched(tmp_path_factory, pytestconfig):
    pytestconfig.pluginmanager.get_plugin("secrecy").watch(tmp_path_factory.getbasetemp())
"""


@pytest.mark.parametrize("how", [["-p", "no:xdist"], ["-n", "1"]], ids=["alone", "worker"])
def test_who_leaks_fails(how: list[str]) -> None:
    """In a log of its own, in its output, in a shared log; and the run, if it is found at the end only."""
    with tempfile.TemporaryDirectory() as elsewhere:  # not below our own folder: what leaks here is meant to
        folder = Path(elsewhere)
        (folder / "conftest.py").write_text(CONFTEST)
        (folder / "test_leaking.py").write_text(LEAKING)
        flags = ["-q", "-rA", "--tb=line", "-p", "no:cacheprovider", f"--basetemp={folder}/temporary", *how]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", elsewhere, elsewhere, *flags],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    failed = set(re.findall(r"^ERROR .*::(\w+)", done.stdout, re.MULTILINE))
    assert {"test_file", "test_output", "test_shared"} == failed, done.stdout + done.stderr
    assert 1 == done.returncode
    assert re.search(r"^a JWT in .*end\.log: eyJhbG\.\.\.$", done.stdout, re.MULTILINE), done.stdout
