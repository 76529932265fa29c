from __future__ import annotations

import http.client
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.cli import drain, serve
from tests.support.ports import free_port

READY_WITHIN = 60.0
GONE_WITHIN = 60.0


@pytest.fixture(name="port")
def _port() -> int:
    """Find a port that is free, so that the command can be given one."""
    return free_port()


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    """Make an empty folder with the configuration file that the examples name."""
    (tmp_path / "gateway.toml").write_text("[client]\ninsecure = true\n[log]\nformat = 'json'\n")
    return tmp_path


def examples(command: Callable[..., None]) -> list[str]:
    """Return the command lines in the help of a command."""
    return [line.strip()[2:] for line in (command.__doc__ or "").splitlines() if line.strip().startswith("$ ")]


@contextmanager
def running(line: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a command line of ours; what it started is gone afterwards."""
    words = shlex.split(line)
    at = words.index("gateway")
    env = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    env |= dict(word.split("=", 1) for word in words[:at])
    command = [sys.executable, "-m", "gateway", *words[at + 1 :]]
    process = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        try:
            yield process
        finally:
            process.kill()


def get(port: int, path: str) -> tuple[int, str]:
    """Ask a node; it may still be starting."""
    deadline = time.monotonic() + READY_WITHIN
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)  # the port is not open yet, and nobody can tell us when it will be
        finally:
            connection.close()


@pytest.mark.parametrize("line", [it for it in examples(serve) if "--workers" not in it])  # see test_workers.py
def test_the_examples_of_serve_work(line: str, folder: Path, port: int) -> None:
    """Each starts a node that is ready and measured, and SIGTERM ends it with exit code 0."""
    if "--port" in line:
        line = line.replace("8000", str(port))
    else:
        line = f"{line} --port {port}".replace("0.0.0.0", "127.0.0.1")
    with running(line, folder) as process:
        assert 200 == get(port, "/health/live")[0]
        assert 200 == get(port, "/health/ready")[0]
        names = {it.name for it in text_string_to_metric_families(get(port, "/metrics")[1])}
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=GONE_WITHIN)
    assert (0, "") == (process.returncode, err)
    assert {"gateway_build_info", "gateway_connections", "gateway_handshakes"} <= names
    assert '"event":"settings.warning"' in out
    assert f'"url":"http://127.0.0.1:{port}"' in out


def test_operators_have_a_port_of_their_own_if_they_want(folder: Path, port: int) -> None:
    """With `http_server.internal_port` metrics, health and API are there only."""
    internal = free_port()
    line = f"GATEWAY_HTTP_SERVER__INTERNAL_PORT={internal} gateway serve --config gateway.toml --port {port}"
    with running(line, folder) as process:
        assert 200 == get(internal, "/metrics")[0]
        assert 200 == get(internal, "/health/ready")[0]
        assert 404 == get(port, "/metrics")[0]
        process.send_signal(signal.SIGINT)
        assert 0 == process.wait(GONE_WITHIN)
        process.communicate()


@pytest.mark.parametrize("line", examples(drain))
def test_the_examples_of_drain_work(line: str, folder: Path, port: int) -> None:
    """Each empties a node with the settings it was started with; SIGTERM then ends that at once."""
    internal = free_port()
    settings = f"[http_server]\nport = {port}\ninternal_port = {internal}\n[http_api]\nkey = 'secret'\n"
    (folder / "gateway.toml").write_text(f"[client]\ninsecure = true\n{settings}")
    with running("gateway serve --config gateway.toml", folder) as node:
        assert 200 == get(internal, "/health/ready")[0]
        with running(line.replace("9000", str(internal)), folder) as command:
            out, err = command.communicate(timeout=GONE_WITHIN)
        assert (0, "") == (command.returncode, err)
        assert out.splitlines()[-1] == ("drained" if "--wait" in line else "0 connections left")
        assert (503, 200) == (get(internal, "/health/ready")[0], get(internal, "/health/live")[0])
        node.send_signal(signal.SIGTERM)
        node.communicate(timeout=GONE_WITHIN)
    assert 0 == node.returncode


def test_a_node_that_is_not_there_is_one_line(folder: Path) -> None:
    """Where it was looked for, and what to do; exit code 1, no traceback."""
    nobody = free_port()
    with running(f"GATEWAY_HTTP_API__KEY=k GATEWAY_HTTP_SERVER__PORT={nobody} gateway drain", folder) as process:
        _, err = process.communicate(timeout=GONE_WITHIN)
    assert 1 == process.returncode
    assert f"gateway: no node answers at http://127.0.0.1:{nobody}: is it running? Name another with --url\n" == err


def test_a_taken_port_is_one_line(folder: Path) -> None:
    """Which port, and what to do; exit code 1, no traceback."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        taken = sock.getsockname()[1]
        with running(f"gateway serve --config gateway.toml --port {taken}", folder) as process:
            _, err = process.communicate(timeout=READY_WITHIN)
    assert 1 == process.returncode
    assert f"gateway: port {taken} on 127.0.0.1 is taken" in err
    assert 1 == len(err.splitlines())


def test_a_redis_that_is_not_there_is_told_and_waited_for(folder: Path, port: int) -> None:
    """The node lives, says in one line what is missing, is not ready, and keeps trying."""
    nobody = free_port()
    line = f"GATEWAY_ENGINE__URL=redis://127.0.0.1:{nobody}/0 gateway serve --config gateway.toml --port {port}"
    with running(line, folder) as process:
        assert 200 == get(port, "/health/live")[0]
        status, body = get(port, "/health/ready")
        assert 503 == status
        assert f"127.0.0.1:{nobody}" in body
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=GONE_WITHIN)
    assert 0 == process.returncode
    assert f"127.0.0.1:{nobody}" in out
    assert "Traceback" not in out
