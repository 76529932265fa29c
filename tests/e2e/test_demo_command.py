from __future__ import annotations

import itertools
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli import demo as command
from gateway.demo.plan import USERS
from tests.e2e.running import Demo, gone, running
from tests.support.deadlines import killed_after
from tests.support.ports import free_port

ANSWER_WITHIN = 30.0


@pytest.fixture(name="own")
def _own(tmp_path: Path) -> Iterator[Demo]:
    """Give a demo that the test may end."""
    with running(tmp_path / "kept") as demo:
        yield demo


def refused(directory: Path, *flags: str) -> str:
    """Return the one line with which a demo that cannot start ends."""
    demo = Demo(directory)
    demo.start(*flags)
    assert demo.wait() == 1
    assert "Traceback" not in demo.output
    return demo.lines[-1]


def test_printed_commands_work_as_they_stand(demo: Demo) -> None:
    """The bare Python client hears what the curl line publishes on the other node."""
    listening = demo.line_with(["websockets.sync.client", "hello from python"])
    publishing = demo.line_with(["curl", "hello from curl"])
    where = demo.directory.parent  # another terminal in the directory where the demo was started
    with subprocess.Popen(["sh", "-c", f"exec {listening}"], cwd=where, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        try:
            heard = iter(client.stdout.readline, "")
            with killed_after(client, ANSWER_WITHIN):
                own = next((line for line in heard if "hello from python" in line), "")
            answer = subprocess.run(
                shlex.split(publishing), check=True, capture_output=True, text=True, timeout=ANSWER_WITHIN
            )
            with killed_after(client, ANSWER_WITHIN):
                other = next((line for line in heard if "hello from curl" in line), "")
        finally:
            client.kill()

    assert '"sender":"dave"' in own
    assert '"sender":null' in other
    assert '"result"' in answer.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_leaves_nothing_and_the_next_start_knows_the_users(tmp_path: Path, number: signal.Signals) -> None:
    """A signal ends everything with exit code 0; the passwords are the same at the next start."""
    with running(tmp_path / "kept") as first:
        children = first.children()
        assert {"valkey-server", "auth-service", "gateway"} <= {it.name() for it in children}
        assert first.stop(number) == 0
        assert gone(children)

    with running(tmp_path / "kept") as second:
        assert first.passwords == second.passwords
        assert set(USERS) == set(second.passwords)


def examples() -> list[str]:
    """Return the command lines in the help of `gateway demo`."""
    return [line.strip()[2:] for line in (command.__doc__ or "").splitlines() if line.strip().startswith("$ ")]


@pytest.mark.parametrize("line", examples())
def test_the_examples_of_the_help_work(tmp_path: Path, line: str) -> None:
    """Each starts a demo that keeps its things in .demo; here on ports that are free."""
    demo = Demo(tmp_path / ".demo")
    flags = ("--port", "--auth-port", "--second-port")
    ports = dict(zip(flags, map(str, (demo.port, demo.auth_port, demo.second_port)), strict=True))
    words = shlex.split(line)
    assert "gateway" == words[0]
    words = [ports.get(before, word) for before, word in itertools.pairwise(words)]
    demo.run(*words, *(it for flag, port in ports.items() if flag not in words for it in (flag, port)))
    try:
        demo.wait_until_up()
        assert demo.node in demo.output
        assert demo.second_node in demo.output
        assert (demo.directory / "demo.json").exists()
    finally:
        assert 0 == demo.stop()


def test_killing_the_demo_leaves_nothing(own: Demo) -> None:
    """SIGKILL cannot be handled; the programs go all the same."""
    children = own.children()

    own.process.kill()
    own.wait()

    assert gone(children)


def test_program_that_goes_away_ends_the_demo(own: Demo) -> None:
    """When a node dies the demo says which, shows the end of its log, stops the rest and exits with 1."""
    children = own.children()

    own.child(str(own.second_port)).kill()

    assert own.wait() == 1
    assert "node-2 stopped by itself (signal 9)" in own.lines[-1]
    assert any(line.startswith("  | ") for line in own.lines)
    assert gone(children)


def test_second_demo_in_the_same_directory_is_refused(demo: Demo) -> None:
    """Two demos would share keys, users and logs."""
    assert f"another demo runs in {demo.directory}" in refused(demo.directory)


def test_taken_port_is_one_line(tmp_path: Path) -> None:
    """A taken port is named together with the flag that changes it."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = refused(tmp_path, "--second-port", str(port))

    assert f"port {port} cannot be used" in line
    assert "--second-port" in line


def test_missing_redis_is_one_line(tmp_path: Path) -> None:
    """A Redis that was asked for and is not there ends the demo at once."""
    url = f"redis://127.0.0.1:{free_port()}/0"

    assert f"no Redis at {url}" in refused(tmp_path, "--redis", url)
