"""The systemd units: systemd accepts them, finds them well locked up, and they are of one mind with the settings."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest

from gateway.settings import Settings, check
from gateway.settings.durations import parse_duration
from tests.support.adapting import DEPLOY
from tests.support.tools import ended

FOLDER: Final = DEPLOY / "systemd"
UNITS: Final = {"gateway@.service": "gateway@1.service", "gateway-workers.service": "", "auth.service": ""}
MOST_EXPOSED: Final = 1.5  # of 10, where systemd calls everything up to 2 OK
SLACK: Final = 10.0  # seconds that a drain may take beyond what its settings say
EXPOSURE: Final = re.compile(r"Overall exposure level for \S+: (\d+\.\d)")

pytestmark = pytest.mark.needs("systemd")


@pytest.fixture(name="unit", params=UNITS)
def _unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Give a unit as systemd would find it, the programs being those of the tests."""
    name = str(request.param)
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert "/opt/gateway/bin/" in text
    path = tmp_path / (UNITS[name] or name)
    path.write_text(text.replace("/opt/gateway/bin", str(Path(sys.executable).parent)), encoding="utf-8")
    return path


def values(name: str, key: str) -> list[str]:
    """Return what a unit says of this key, line by line."""
    return re.findall(rf"^{key}=(.*)$", (FOLDER / name).read_text(encoding="utf-8"), re.MULTILINE)


def environment(name: str) -> dict[str, str]:
    """Return the variables that a unit sets, with `1` and `host` for what systemd puts in."""
    pairs = [pair for line in values(name, "Environment") for pair in line.split()]
    return {key: value.replace("%i", "1").replace("%H", "host") for key, value in (it.split("=", 1) for it in pairs)}


def test_systemd_accepts_it(unit: Path) -> None:
    """No fault and no warning; and a misspelt key would be one."""
    verified = ended(["systemd-analyze", "verify", "--recursive-errors=no", str(unit)])
    assert (0, "") == (verified.returncode, verified.stdout + verified.stderr)
    unit.write_text(unit.read_text("utf-8").replace("TimeoutStopSec=", "TimeoutStopSecs="), "utf-8")
    assert "TimeoutStopSecs" in ended(["systemd-analyze", "verify", "--recursive-errors=no", str(unit)]).stderr


def test_systemd_finds_it_locked_up(unit: Path) -> None:
    """Its own score; and it would see a lock that is missing."""

    def exposure() -> float:
        judged = ended(["systemd-analyze", "security", "--offline=true", str(unit)]).stdout
        found = EXPOSURE.search(judged)
        assert found, judged
        return float(found[1])

    score = exposure()
    assert score <= MOST_EXPOSED
    unit.write_text(unit.read_text("utf-8").replace("SystemCallFilter=@system-service\n", ""), "utf-8")
    assert exposure() > score


def settings(name: str) -> Settings:
    """Return what a node of this unit runs with."""
    checked = check({}, config=FOLDER / "gateway.toml", environ=environment(name))
    assert ([], []) == (checked.faults, checked.warnings)
    assert checked.settings is not None
    return checked.settings


@pytest.mark.parametrize("name", ["gateway@.service", "gateway-workers.service"])
def test_a_node_is_given_the_time_that_its_drain_takes(name: str) -> None:
    """SIGKILL comes after delay, window, timeout and some slack; the workers get a signal from their parent alone."""
    shutdown = settings(name).shutdown
    (stop,) = values(name, "TimeoutStopSec")
    assert shutdown.delay + shutdown.window + shutdown.timeout + SLACK <= parse_duration(stop)
    assert (["mixed"] if "workers" in name else []) == values(name, "KillMode")


def test_services_know_each_other() -> None:
    """The auth service tells the nodes where they listen, signs what they take, and all trust the same proxy."""
    auth = environment("auth.service")
    lines = (FOLDER / "auth.env").read_text("utf-8").splitlines()
    auth |= dict(it.split("=", 1) for it in lines if it and not it.startswith("#"))
    node, workers = settings("gateway@.service"), settings("gateway-workers.service")
    assert node.http_server.internal_port == workers.http_server.internal_port == 9001
    assert ["http://127.0.0.1:9001", "http://127.0.0.1:9002"] == auth["AUTH_GATEWAY_URLS"].split(",")
    assert (auth["AUTH_ISSUER"], auth["AUTH_AUDIENCE"]) == (node.client.token.issuer, node.client.token.audience)
    assert (auth["AUTH_TRUSTED_PROXIES"],) == node.http_server.trusted_proxies
    reference = (DEPLOY.parent / "docs" / "reference" / "settings.md").read_text("utf-8")
    assert auth.keys() <= set(re.findall(r"`(AUTH_\w+)`", reference))
    (start,) = values("auth.service", "ExecStart")
    assert node.client.token.jwks_public_endpoint.startswith("http://127.0.0.1:" + start.rsplit(" ", 1)[1] + "/")


def test_nodes_may_share_the_port() -> None:
    """`gateway@` nodes share it by flag, on internal ports of their own; the sample holds no key that works."""
    assert "--reuse-port" in values("gateway@.service", "ExecStart")[0]
    assert environment("gateway@.service")["GATEWAY_HTTP_SERVER__INTERNAL_PORT"] == "9001"
    assert tomllib.loads((FOLDER / "gateway.toml").read_text("utf-8"))["http_api"]["key"] == "CHANGE-ME"
