from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from loadtests.peers import tools


@pytest.fixture(name="apart")
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where packages of the peers' environment lie."""
    monkeypatch.setattr(tools, "APART", tmp_path)
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    return packages


@pytest.fixture(name="node")
def _node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where Node's packages lie."""
    monkeypatch.setattr(tools, "NODE", tmp_path)
    (tmp_path / "node_modules").mkdir()
    return tmp_path / "node_modules"


def test_a_python_package_that_is_not_installed_is_named_with_the_remedy(apart: Path) -> None:
    """A peer cannot run until its package is there."""
    assert "no channels_redis: `make compare` installs it" == tools.missing_apart("channels_redis")
    (apart / "channels_redis").mkdir()
    assert "" == tools.missing_apart("channels_redis")


def test_versions_are_those_of_the_peers_own_environment(apart: Path) -> None:
    """Names are told as an index writes them, whatever the package calls itself; ours are not asked."""
    folder = apart / "channels_redis-9.9.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: Channels_Redis\nVersion: 9.9\n", encoding="utf-8")
    assert {"channels-redis": "9.9"} == tools.versions_apart(["channels-redis"])
    with pytest.raises(KeyError):
        tools.versions_apart(["redis"])


def test_a_package_of_node_needs_node(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without node nothing runs; with it the package must be there."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert "no node on PATH" == tools.missing_node("ws")
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert "no ws: `make compare` installs it" == tools.missing_node("ws")
    (node / "ws").mkdir()
    assert "" == tools.missing_node("ws")


@pytest.mark.needs("node")
def test_versions_of_node_are_read_where_it_looks(node: Path) -> None:
    """Node says its own, packages have theirs in their package.json."""
    (node / "ws").mkdir()
    (node / "ws" / "package.json").write_text(json.dumps({"version": "8.0.1"}), encoding="utf-8")
    found = tools.versions_node(["ws"])
    assert ["node", "ws"] == list(found)
    assert "8.0.1" == found["ws"]
    assert found["node"].count(".") == 2


def test_nothing_is_compiled_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, in words, before and when it is tried."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert "no C compiler on PATH" == tools.missing_compiler()
    with pytest.raises(RuntimeError, match="no C compiler on PATH"):
        tools.program("c_loop.c")


def test_peers_run_in_their_own_environment() -> None:
    """A script is started by path with the peers' interpreter, never with ours."""
    program, path, *arguments = tools.script("python_socketio.py", 8000, "redis://127.0.0.1:1/0")
    assert str(tools.APART / "bin" / "python") == program
    assert Path(path).is_file()
    assert ["8000", "redis://127.0.0.1:1/0"] == arguments
