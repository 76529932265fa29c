"""The images, built for real and run as their user on files that cannot be written: slow, for `make soak`."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
import pytest
from websockets.sync.client import connect

from gateway.minting import Order, sign_with_secret
from loadtests.reports import writing
from tests.deploy.test_images import UID
from tests.support.images import Builder, Container, Image, done, running, stop_signal
from tests.support.ports import free_port
from tests.support.valkey import Valkey

pytestmark = [pytest.mark.soak, pytest.mark.needs("images")]

SECONDS: Final = 60.0
SECRET: Final = secrets.token_hex(32)
PLACES: Final = {"gateway": "", "auth": "/var/lib/auth", "load": "/reports"}  # beside /opt/venv


@pytest.fixture(scope="module", name="builder")
def _builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    made = Builder(tmp_path_factory.mktemp("images"))
    yield made
    made.close()


@pytest.fixture(scope="module", name="gateway")
def _gateway(builder: Builder) -> Image:
    return builder.build("gateway", "base", "compile", VERSION="1.2.3", REVISION="abc")


@pytest.fixture(scope="module", name="auth")
def _auth(builder: Builder) -> Image:
    return builder.build("auth", "base")


@pytest.fixture(scope="module", name="load")
def _load(builder: Builder) -> Image:
    return builder.build("load", "load")


@contextmanager
def node(gateway: Image, valkey: Valkey, folder: Path) -> Iterator[tuple[Container, dict[str, str]]]:
    """Run a node that is ready; yields it, and the settings that it was given."""
    settings = {
        "GATEWAY_HTTP_SERVER__ADDRESS": "127.0.0.1",
        "GATEWAY_HTTP_SERVER__PORT": str(free_port()),
        "GATEWAY_HTTP_SERVER__INTERNAL_PORT": str(free_port()),
        "GATEWAY_ENGINE__URL": valkey.url,
        "GATEWAY_CLIENT__TOKEN__HMAC_SECRET_KEY": SECRET,
        "GATEWAY_CHANNEL__WITHOUT_NAMESPACE__ALLOW_SUBSCRIBE_FOR_CLIENT": "true",
        "GATEWAY_CHANNEL__WITHOUT_NAMESPACE__ALLOW_PUBLISH_FOR_CLIENT": "true",
        "GATEWAY_SHUTDOWN__WINDOW": "1s",
    }
    with running(gateway, gateway.command, folder / "node.log", environ=settings) as container:
        well(gateway, container, settings)
        yield container, settings


def well(image: Image, container: Container, settings: dict[str, str], *more: str) -> None:
    """Wait until the image's own health check says so."""
    check = image.config["Healthcheck"]["Test"]
    assert "CMD" == check[0]
    deadline = time.monotonic() + SECONDS
    while (asked := done(image, [*check[1:], *more], environ=settings)).returncode != 0:
        assert psutil.pid_exists(container.pid), container.log
        assert time.monotonic() < deadline, asked.stderr + container.log


def added(image: Image, base: Path) -> set[str]:
    """Return what an image has that its base has not, without what is in a folder that is new itself."""
    new: set[str] = set()
    folders = [image.root]
    while folders:
        for path in folders.pop().iterdir():
            name = path.relative_to(image.root)
            if not (base / name).is_symlink() and not (base / name).exists():
                new.add(f"/{name}")
            elif path.is_dir() and not path.is_symlink():
                folders.append(path)
    return new


# --- what is in them


@pytest.mark.parametrize("name", PLACES)
def test_an_image_is_its_base_and_a_venv(name: str, builder: Builder, request: pytest.FixtureRequest) -> None:
    """Nothing else was left there: no sources, no compiler, no pip; and nothing that its user or others may change."""
    image: Image = request.getfixturevalue(name)
    base = builder.opened("localhost/slim")
    assert {"/opt/venv", PLACES[name]} - {""} == added(image, base.root)
    site = next((image.root / "opt/venv/lib").iterdir()) / "site-packages"
    present = {it.name for it in site.iterdir()}
    programs = {"gateway", "auth_service", "loadtests"} & present
    assert {"gateway": {"gateway"}, "auth": {"auth_service"}, "load": {"gateway", "loadtests"}}[name] == programs
    assert not {"pip", "setuptools", "mypy", "pytest", "matplotlib"} & present
    found = list((image.root / "opt/venv").rglob("*"))
    assert found
    loose = [it for it in found if not it.is_symlink() and (it.stat().st_uid or it.stat().st_mode & stat.S_IWOTH)]
    assert [] == loose
    assert f"{UID}:{UID}" == image.config["User"]


def test_labels_say_what_it_is(gateway: Image) -> None:
    """Version and revision are those that the builder was told."""
    labels = gateway.config["Labels"]
    assert "1.2.3" == labels["org.opencontainers.image.version"]
    assert "abc" == labels["org.opencontainers.image.revision"]
    assert "Apache-2.0" == labels["org.opencontainers.image.licenses"]


def test_the_container_is_one(gateway: Image) -> None:
    """What is called a container here is one: no root, no capability, nothing to write, no processes of others."""
    tried = done(gateway, ["sh", "-c", "id -u; grep CapEff /proc/self/status; touch /x /tmp/x /opt/venv/x; ls /proc"])
    assert f"{UID}\nCapEff:\t0000000000000000\n" == "".join(tried.stdout.splitlines(keepends=True)[:2])
    assert 3 == tried.stderr.count("Read-only file system")
    assert {"1"} == {it for it in tried.stdout.splitlines()[2:] if it.isdecimal() and int(it) < 3}


# --- the gateway


def test_the_gateway_is_compiled(gateway: Image) -> None:
    """The image holds what was measured: the hot path as machine code."""
    shown = done(gateway, ["gateway", "--version"])
    assert re.fullmatch(r"realtime-gateway \S+ \(compiled\)\n", shown.stdout), shown.stdout + shown.stderr


def test_a_node_serves_and_ends(gateway: Image, valkey: Valkey, tmp_path: Path) -> None:
    """Ready by its own health check, a publication goes through Valkey and back, and its stop signal drains it."""
    with node(gateway, valkey, tmp_path) as (container, settings):
        public, internal = (settings[f"GATEWAY_HTTP_SERVER__{it}"] for it in ("PORT", "INTERNAL_PORT"))
        ready = httpx.get(f"http://127.0.0.1:{internal}/health/ready", trust_env=False, timeout=30.0)
        assert (200, {"status": "ok"}) == (ready.status_code, ready.json())
        assert (
            'build="compiled"' in httpx.get(f"http://127.0.0.1:{internal}/metrics", trust_env=False, timeout=30.0).text
        )
        assert 404 == httpx.get(f"http://127.0.0.1:{public}/metrics", trust_env=False, timeout=30.0).status_code
        token = sign_with_secret(Order(user="alice", ttl=600.0, channels=(), audience="gateway", issuer=""), SECRET)
        with connect(f"ws://127.0.0.1:{public}/connection/websocket", proxy=None) as link:
            link.send("\n".join(json.dumps(it) for it in _conversation(token)))
            assert {"text": "through Valkey"} == _publication(link)
            before = psutil.Process(container.pid)
            assert {UID} == set(before.uids())
            code = container.stop(stop_signal(gateway))
        assert 0 == code, container.log
        assert "node.drained" in container.log


def _conversation(token: str) -> list[dict[str, Any]]:
    return [
        {"id": 1, "connect": {"token": token}},
        {"id": 2, "subscribe": {"channel": "room"}},
        {"id": 3, "publish": {"channel": "room", "data": {"text": "through Valkey"}}},
    ]


def _publication(link: Any) -> Any:
    """Return the data of the first publication that comes."""
    while True:
        for line in str(link.recv(timeout=SECONDS)).splitlines():
            if "pub" in (push := json.loads(line).get("push", {})):
                return push["pub"]["data"]


def test_a_node_without_what_it_needs_says_so(gateway: Image) -> None:
    """As it comes, with no key to check tokens with: a line, and exit code 1."""
    ended = done(gateway, gateway.command)
    assert 1 == ended.returncode
    assert "client.token.jwks_public_endpoint" in ended.stderr


# --- the auth service


def test_the_auth_service_keeps_its_state_in_one_place(auth: Image, tmp_path: Path) -> None:
    """Database and keys are in the volume and nowhere else; the image's health check finds it well; it ends well."""
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o700)
    port = free_port()
    url, command = f"http://127.0.0.1:{port}", [*auth.command, "--host", "127.0.0.1", "--port", str(port)]
    assert 1 == done(auth, command).returncode  # without a volume there is nowhere to keep anything
    _own(state)
    with running(auth, command, tmp_path / "auth.log", mounts={state: "/var/lib/auth"}) as container:
        well(auth, container, {}, "--url", url)
        body = {"username": "alice", "password": secrets.token_hex(8)}
        made = httpx.post(f"{url}/register", json=body, trust_env=False, timeout=30.0)
        assert made.is_success, made.text
        assert 0 == container.stop(stop_signal(auth)), container.log
    assert {"auth.db", "auth_keys"} <= {it.name for it in state.iterdir()}


def _own(folder: Path) -> None:
    os.chown(folder, UID, UID)


# --- the generator of load


def test_load_is_put_on_a_node_from_its_image(gateway: Image, load: Image, valkey: Valkey, tmp_path: Path) -> None:
    """As the job does it: a profile from a file, the secret from a variable, the result on standard output."""
    reports = tmp_path / "reports"
    reports.mkdir()
    _own(reports)
    profile = "scenario: fan-out\nconnections: 20\nrate: 10\nramp: 1\nwarm_up: 1\nduration: 3\nsettle: 5\n"
    (reports / "profile.yaml").write_text(profile, encoding="utf-8")
    with node(gateway, valkey, tmp_path) as (_, settings):
        target = f"http://127.0.0.1:{settings['GATEWAY_HTTP_SERVER__PORT']}"
        words = ["run", "fan-out", "--profile", "/reports/profile.yaml", "--target", target, "--processes", "1"]
        words += ["--json", "-", "--report", "/reports", "--quiet"]
        played = done(
            load,
            [*load.config["Entrypoint"], *words],
            environ={"GATEWAY_LOAD_SECRET": SECRET},
            mounts={reports: "/reports"},
        )
    assert played.returncode in {0, 3}, played.stdout + played.stderr  # 3: this machine had no core to spare
    (printed,) = re.findall(r"^\{\n.*^\}\n", played.stdout, re.MULTILINE | re.DOTALL)
    result = writing.read(reports / "result.json")
    assert writing.encoded(result).decode() == printed
    assert result.audit.clean
    assert result.audit.delivered >= 20 * result.audit.acknowledged > 0


def test_stopping_a_generator_leaves_a_report(gateway: Image, load: Image, valkey: Valkey, tmp_path: Path) -> None:
    """Its stop signal is Ctrl-C: what was measured by then is reported."""
    reports = tmp_path / "reports"
    reports.mkdir()
    _own(reports)
    assert signal.SIGINT == stop_signal(load)
    with node(gateway, valkey, tmp_path) as (_, settings):
        target = f"http://127.0.0.1:{settings['GATEWAY_HTTP_SERVER__PORT']}"
        words = ["run", "fan-out", "--target", target, "--processes", "1", "--report", "/reports"]
        words += [it for field in ("connections=20", "namespace=", "duration=300", "ramp=1") for it in ("--set", field)]
        log = tmp_path / "load.log"
        begun = running(
            load,
            [*load.config["Entrypoint"], *words],
            log,
            environ={"GATEWAY_LOAD_SECRET": SECRET},
            mounts={reports: "/reports"},
        )
        with begun as container:
            deadline = time.monotonic() + SECONDS
            while "measure" not in container.log:
                assert time.monotonic() < deadline, container.log
                time.sleep(0.1)
            assert 130 == container.stop(stop_signal(load)), container.log
    assert writing.read(reports / "result.json").audit.clean
