"""A real Traefik reads our routes of each kind, as from an API server, and leads clients to real nodes."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import trustme
from websockets.asyncio.client import connect

from tests.deploy.test_k8s_ways import HIDDEN
from tests.support.apiserver import HOST, Cluster, Object, serving
from tests.support.manifests import built
from tests.support.ports import free_port
from tests.support.site import Backend, bearer
from tests.support.tools import TOOLS

pytestmark = pytest.mark.needs("deploy tools")

NAME: Final = "gateway.example.com"
READY_SECONDS: Final = 60.0
CONTROLLER: Final = "traefik.io/gateway-controller"


@dataclass(frozen=True, slots=True)
class Way:
    """One kind of route: what builds it, and who reads it."""

    manifests: str
    provider: str
    kinds: tuple[str, ...]


WAYS: Final = {
    "ingress routes": Way(
        "traefik and keda", "kubernetescrd", ("IngressRoute", "Middleware", "ServersTransport", "TLSOption")
    ),
    "gateway api": Way("gateway api", "kubernetesgateway", ("Gateway", "HTTPRoute")),
    "ingress": Way("production", "kubernetesingressnginx", ("Ingress",)),
}


@dataclass(frozen=True, slots=True)
class Door:
    """A Traefik that stands in front."""

    port: int
    plain_port: int
    trust: ssl.SSLContext
    cluster: Cluster
    log: Path

    async def get(self, path: str, **headers: str) -> int:
        """Ask for a path under the name that the routes are for; return the status."""
        async with httpx.AsyncClient(verify=self.trust, trust_env=False, timeout=20.0) as http:
            asked: dict[str, Any] = {"headers": {"Host": NAME, **headers}, "extensions": {"sni_hostname": NAME}}
            return (await http.get(f"https://{HOST}:{self.port}{path}", **asked)).status_code


@pytest.fixture(name="door", scope="module", params=WAYS)
def _door(request: pytest.FixtureRequest, backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with _running(WAYS[request.param], backend, tmp_path_factory.mktemp("door")) as door:
        yield door


@contextmanager
def _running(way: Way, backend: Backend, folder: Path) -> Iterator[Door]:
    authority, ports = trustme.CA(), (free_port(), free_port())
    objects = [*_routes(way, ports), *_services(way, backend), _certificate(authority)]
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    with serving(objects) as (address, cluster), (folder / "traefik.log").open("wb") as log:
        command = [str(TOOLS / "traefik"), "--log.level=INFO", "--log.format=json", "--log.nocolor=true"]
        command += [
            f"--entrypoints.websecure.address={HOST}:{ports[0]}",
            f"--entrypoints.web.address={HOST}:{ports[1]}",
        ]
        command += ["--global.checknewversion=false", f"--providers.{way.provider}=true"]
        command += [f"--providers.{way.provider}.endpoint={address}", f"--providers.{way.provider}.token=none"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        door = Door(*ports, trust, cluster, Path(log.name))
        try:
            _until(lambda: process.poll() is None and _leads(door), door.log)
            yield door
        finally:
            process.terminate()
            try:
                process.wait(READY_SECONDS)
            finally:
                process.kill()


def _leads(door: Door) -> bool:
    try:
        with httpx.Client(verify=door.trust, trust_env=False, timeout=30.0) as http:
            url, extensions = f"https://{HOST}:{door.port}/.well-known/jwks.json", {"sni_hostname": NAME}
            return http.get(url, headers={"Host": NAME}, extensions=extensions).status_code == 200
    except httpx.TransportError:
        return False


def _until(condition: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not condition():
        assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
        time.sleep(0.05)


def _routes(way: Way, ports: Sequence[int]) -> list[Object]:
    """Return what is read, as it is built; of a Gateway the ports, which must be those of the proxy, are the test's."""
    routes = deepcopy(built(way.manifests).of(*way.kinds))
    for it in routes:
        if it["kind"] == "Gateway":
            for listener in it["spec"]["listeners"]:
                listener["port"] = ports[0] if listener["protocol"] == "HTTPS" else ports[1]
    beside = {"Gateway": ("GatewayClass", "gateway.networking.k8s.io/v1", "example", {"controllerName": CONTROLLER})}
    beside["Ingress"] = ("IngressClass", "networking.k8s.io/v1", "nginx", {"controller": "k8s.io/ingress-nginx"})
    classes = [_object(*beside[kind]) for kind in way.kinds if kind in beside]
    return [*routes, *classes, _object("Namespace", "v1", "realtime", {})]


def _object(kind: str, version: str, name: str, spec: Object) -> Object:
    return {"kind": kind, "apiVersion": version, "metadata": {"name": name}, "spec": spec}


def _services(way: Way, backend: Backend) -> Iterator[Object]:
    """Yield the Services as they are built, and for each the pods that stand behind it: real processes."""
    behind = {"gateway": ("public", backend.ports), "auth": ("http", [backend.cluster.auth.port])}
    for service in built(way.manifests).of("Service"):
        name = service["metadata"]["name"]
        if name not in behind:
            continue
        defaults = {"type": "ClusterIP", "clusterIP": "10.0.0.1"}  # what the API server would have filled in
        open_ports = [{"protocol": "TCP", **it} for it in service["spec"]["ports"]]
        yield {**service, "spec": {**service["spec"], **defaults, "ports": open_ports}}
        port_name, ports = behind[name]
        for index, port in enumerate(ports):
            yield {
                "kind": "EndpointSlice",
                "apiVersion": "discovery.k8s.io/v1",
                "metadata": {
                    "name": f"{name}-{index}",
                    "namespace": "realtime",
                    "labels": {"kubernetes.io/service-name": name},
                },
                "addressType": "IPv4",
                "endpoints": [{"addresses": [HOST], "conditions": {"ready": True, "serving": True}}],
                "ports": [{"name": port_name, "port": port, "protocol": "TCP"}],
            }


def _certificate(authority: trustme.CA) -> Object:
    issued = authority.issue_cert(NAME)
    files = {"tls.crt": issued.cert_chain_pems[0].bytes(), "tls.key": issued.private_key_pem.bytes()}
    return {
        "kind": "Secret",
        "apiVersion": "v1",
        "type": "kubernetes.io/tls",
        "metadata": {"name": "gateway-tls", "namespace": "realtime"},
        "data": {name: base64.b64encode(it).decode() for name, it in files.items()},
    }


async def test_a_client_reaches_a_node(door: Door, backend: Backend) -> None:
    """A WebSocket through each kind of route: the handshake, the token, and messages in both directions."""
    account = await backend.cluster.account("alice")
    url = f"wss://{NAME}/ws/lobby"
    how: dict[str, Any] = {"host": HOST, "port": door.port, "proxy": None, "additional_headers": bearer(account)}
    async with connect(url, ssl=door.trust, **how) as link:
        await link.send(json.dumps({"type": "ping"}))
        async with asyncio.timeout(READY_SECONDS):
            assert json.loads(await link.recv())


async def test_log_in_is_the_auth_services(door: Door) -> None:
    """Its calls are answered by it, here: who are you?"""
    assert 401 == await door.get("/me")
    assert 401 == await door.get("/sessions")
    assert 404 == await door.get("/sessions/../metrics")


async def test_what_is_for_operators_has_no_way_in(door: Door) -> None:
    """Health, metrics, documentation and the server API are 404, and so is another name."""
    assert [404] * len(HIDDEN) == [await door.get(it) for it in HIDDEN]
    assert 404 == await door.get("/ws", Host="other.example.com")


async def test_without_tls_nobody_gets_through(door: Door) -> None:
    """Whoever comes in plain text is led to TLS, if anywhere, and no WebSocket is opened."""
    async with httpx.AsyncClient(trust_env=False, timeout=30.0) as http:
        answer = await http.get(f"http://{HOST}:{door.plain_port}/ws", headers={"Host": NAME})
    assert answer.status_code in {301, 308, 404}
    assert answer.headers.get("location", f"https://{NAME}").startswith(f"https://{NAME}")


def test_traefik_has_nothing_to_object_to(door: Door) -> None:
    """It logs no error, and of what has a status it says that all is well."""
    lines = [json.loads(it) for it in door.log.read_text(encoding="utf-8").splitlines() if it.startswith("{")]
    assert lines
    assert [] == [it for it in lines if it["level"] in {"error", "fatal"}]
    assert "services" in door.cluster.asked
    said = [(name, it) for name, status in door.cluster.told.items() for it in _conditions(status)]
    assert [] == [(name, it) for name, it in said if it["status"] != "True"]
    assert {"Gateway realtime", "HTTPRoute gateway"} <= {
        name for name, _ in said
    } or "httproutes" not in door.cluster.asked


def _conditions(status: Object) -> Iterator[Object]:
    """Yield all conditions: of the whole, of each parent of a route, of each listener."""
    for it in (status, *status.get("parents", ()), *status.get("listeners", ())):
        yield from it.get("conditions", ())
