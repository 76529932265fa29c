from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from gateway.demo.plan import USERS, Plan, check_ports, keep_secrets, move_key
from gateway.errors import OperatorError
from tests.support.ports import free_port


@pytest.mark.parametrize("flag", ["--port", "--auth-port", "--second-port"])
def test_taken_port_is_named_with_its_flag(flag: str) -> None:
    """Who reads the refusal knows which port is taken and which flag moves it."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        field = flag.removeprefix("--").replace("-", "_")
        ports = {"port": free_port(), "auth_port": free_port(), "second_port": free_port()} | {field: taken}

        with pytest.raises(OperatorError, match=rf"port {taken} .*{flag}$"):
            check_ports(Plan(**ports))


def test_two_programs_cannot_share_a_port() -> None:
    """The same port given twice is refused before anything starts."""
    with pytest.raises(OperatorError, match=r"--port and --second-port are both 9000"):
        check_ports(Plan(port=9000, second_port=9000))


def test_port_of_a_finished_program_is_free() -> None:
    """A connection in TIME_WAIT from the last run does not stop the next one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
        accepted.close()  # the side that closes first is left in TIME_WAIT
        client.close()

    check_ports(Plan(port=port, auth_port=free_port(), second_port=free_port()))


def test_secrets_are_made_once_and_for_their_owner_only(tmp_path: Path) -> None:
    """The second start finds the passwords of the first, in a file that nobody else may read."""
    first = keep_secrets(tmp_path)

    assert first == keep_secrets(tmp_path)
    assert set(USERS) == set(first.passwords)
    assert len(USERS) == len(set(first.passwords.values()))
    assert 0o600 == stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode)


@pytest.mark.parametrize("content", ["", "{}", '{"passwords": [], "api_key": "x"}', "\x00"])
def test_damaged_secrets_are_told(tmp_path: Path, content: str) -> None:
    """A file that is not what we wrote gives one line that says what to do."""
    (tmp_path / "secrets.json").write_text(content)

    with pytest.raises(OperatorError, match=r"damaged: remove .* and start again"):
        keep_secrets(tmp_path)


def test_page_and_origins_name_both_nodes() -> None:
    """The page can reach both nodes, and both nodes let in a page from either, under both names of the machine."""
    plan = Plan(port=1, auth_port=2, second_port=3)

    assert {
        "nodes": [{"name": "node-1", "url": "http://127.0.0.1:1"}, {"name": "node-2", "url": "http://127.0.0.1:3"}],
        "auth": "http://127.0.0.1:2",
        "room": "lobby",
    } == plan.page
    assert {
        "http://127.0.0.1:1",
        "http://localhost:1",
        "http://127.0.0.1:3",
        "http://localhost:3",
    } == set(plan.origins)


def test_the_key_of_an_earlier_demo_is_moved_in(tmp_path: Path) -> None:
    """Where a demo of before kept its one key, it becomes the first of the folder; later starts leave that alone."""
    plan = Plan(directory=tmp_path)
    move_key(plan)
    assert not plan.keys.exists()

    (tmp_path / "signing_key.pem").write_text("old")
    move_key(plan)
    move_key(plan)

    assert "old" == (plan.keys / "first.pem").read_text()
    assert not (tmp_path / "signing_key.pem").exists()
    assert 0o700 == stat.S_IMODE(plan.keys.stat().st_mode)

    (tmp_path / "signing_key.pem").write_text("older")
    move_key(plan)
    assert "old" == (plan.keys / "first.pem").read_text()
