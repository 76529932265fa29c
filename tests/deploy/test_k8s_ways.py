"""Who may reach whom, by the policies; and which paths lead where, by the routes of each kind of proxy."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from starlette.routing import Route

from auth_service.api import operations, routes
from tests.support.manifests import ALL, Manifests, built
from tests.support.policies import Peer, passes, pod

pytestmark = pytest.mark.needs("deploy tools")

SOCKETS = ("/connection/websocket", "/ws", "/ws/lobby")
HIDDEN = (
    "/metrics",
    "/health/live",
    "/health/ready",
    "/docs",
    "/openapi.json",
    "/api",
    "/api/info",
    "/wsx",
    "/loginx",
    "/",
)
PROXY = {"production": "nginx-ingress", "dev": "nginx-ingress", "traefik and keda": "traefik", "gateway api": "edge"}
REDIS, DATABASE, ELSEWHERE = Peer(address="192.0.2.7"), Peer(address="198.51.100.7"), Peer(address="203.0.113.7")
STRANGER = pod("shop", "shop")


@pytest.mark.parametrize("name", ALL)
def test_policies_let_through_what_works(name: str) -> None:
    """Each way that is needed is open: proxies, keys, who is barred, names, metrics, databases."""
    manifests = built(name)
    proxy = pod("proxy", PROXY[name], **{"realtime-gateway/proxy": "allowed"})
    backend = pod("shop", "shop", **{"realtime-gateway/api": "allowed"})
    ways = [(proxy, pod("gateway"), 8000), (proxy, pod("auth"), 8001), (pod("gateway"), pod("auth"), 8001)]
    ways += [(pod("auth"), pod("gateway"), 9000), (backend, pod("gateway"), 9000)]
    ways += [(pod(it), pod("kube-dns", "kube-system"), 53) for it in ("gateway", "auth")]
    if name in ("dev", "traefik and keda"):
        ways += [(pod("gateway"), pod("valkey"), 6379), (pod("auth"), pod("postgres"), 5432)]
    if name in ("production", "traefik and keda"):
        prometheus = pod("prometheus", "monitoring")
        ways += [(prometheus, pod("gateway"), 9000), (prometheus, pod("auth"), 8001)]
    if name == "production":
        ways += [(pod("gateway"), REDIS, 6379), (pod("gateway"), REDIS, 26379), (pod("auth"), DATABASE, 5432)]
    assert [] == [way for way in ways if not passes(manifests, *way)]


@pytest.mark.parametrize("name", ALL)
def test_policies_let_nothing_else_through(name: str) -> None:
    """Every other way is closed: proxies to the internal port, pods to databases of others, anybody to the world."""
    manifests = built(name)
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} == manifests.named(
        "NetworkPolicy", "default-deny"
    )["spec"]
    proxy = pod("proxy", PROXY[name], **{"realtime-gateway/proxy": "allowed"})
    inside = [labels["app.kubernetes.io/name"] for labels, _ in manifests.pods()]
    shut = [(proxy, pod("gateway"), 9000), (STRANGER, pod("auth"), 8001)]
    shut += [(STRANGER, pod("gateway"), port) for port in (8000, 9000)]
    shut += [(pod("prometheus", "shop"), pod("gateway"), 9000), (pod("grafana", "monitoring"), pod("gateway"), 9000)]
    shut += [(pod("gateway"), pod("gateway"), 9000), (pod("gateway"), pod("postgres"), 5432)]
    shut += [(pod("auth"), pod("valkey"), 6379), (pod("auth"), pod("gateway"), 8000), (pod("auth"), REDIS, 6379)]
    shut += [(pod(it), ELSEWHERE, port) for it in inside for port in (80, 443, 6379, 5432)]
    shut += [(pod(it), STRANGER, 80) for it in inside] + [(ELSEWHERE, pod(it), 8000) for it in inside]
    assert [] == [way for way in shut if passes(manifests, *way)]


def _routed(name: str, path: str) -> str:
    """Return the Service that a proxy hands a path to; empty = none."""
    manifests = built(name)
    found = {service for service, matches in _routes(manifests) if matches(path)}
    assert len(found) <= 1
    return next(iter(found), "")


class _Exact(str):
    __slots__ = ()

    def __call__(self, path: str) -> bool:
        return path == self


class _Prefix(str):
    __slots__ = ()

    def __call__(self, path: str) -> bool:
        return path == self or path.startswith(f"{self}/")


class _Pattern(str):
    __slots__ = ()

    def __call__(self, path: str) -> bool:
        return re.search(self, path) is not None


_Match = _Exact | _Prefix | _Pattern


def _routes(manifests: Manifests) -> Iterator[tuple[str, _Match]]:
    """Yield what each kind of route says."""
    yield from _of_ingress(manifests)
    yield from _of_gateway_api(manifests)
    yield from _of_traefik(manifests)


def _of_ingress(manifests: Manifests) -> Iterator[tuple[str, _Match]]:
    for ingress in manifests.of("Ingress"):
        for it in ingress["spec"]["rules"][0]["http"]["paths"]:
            kind = _Exact if it["pathType"] == "Exact" else _Prefix
            yield it["backend"]["service"]["name"], kind(it["path"])


def _of_gateway_api(manifests: Manifests) -> Iterator[tuple[str, _Match]]:
    for rule in [rule for it in manifests.of("HTTPRoute") for rule in it["spec"]["rules"]]:
        for it in rule.get("matches", ()):
            kind = _Exact if it["path"]["type"] == "Exact" else _Prefix
            yield rule["backendRefs"][0]["name"], kind(it["path"]["value"])


def _of_traefik(manifests: Manifests) -> Iterator[tuple[str, _Match]]:
    for rule in [rule for it in manifests.of("IngressRoute") for rule in it["spec"]["routes"]]:
        for word, text in re.findall(r"(Path|PathRegexp)\(`([^`]+)`\)", rule["match"]):
            yield rule["services"][0]["name"], (_Exact if word == "Path" else _Pattern)(text)


@pytest.mark.parametrize("name", ALL)
def test_every_public_path_has_its_way(name: str) -> None:
    """WebSockets go to the nodes, every call of the auth service's API and its keys to the auth service."""
    calls = [it.path.replace("{session}", "abc") for it in routes.router.routes if isinstance(it, Route)]
    assert len(calls) > 10
    assert {"gateway"} == {_routed(name, it) for it in SOCKETS}
    sample = [re.sub(r"\{\w+\}", "abc", it) for it in calls] + ["/.well-known/jwks.json"]
    assert [] == [it for it in sample if _routed(name, it) != "auth"]


@pytest.mark.parametrize("name", ALL)
def test_nothing_else_is_public(name: str) -> None:
    """Health, metrics, documentation and the server API have no way in, whatever port they are on."""
    own = [it.path for it in operations.router.routes if isinstance(it, Route) and "jwks" not in it.path]
    assert len(own) >= 3
    assert [] == [it for it in (*HIDDEN, *own) if _routed(name, it)]


@pytest.mark.parametrize("name", ALL)
def test_routes_name_services_and_ports_that_exist(name: str) -> None:
    """A route to a port that no Service has would be 503 for everybody."""
    manifests = built(name)
    known = {
        (it["metadata"]["name"], port)
        for it in manifests.of("Service")
        for one in it["spec"]["ports"]
        for port in (one["name"], one["port"])
    }
    asked = set(_targets(manifests))
    assert len(asked) == 2
    assert asked <= known


def _targets(manifests: Manifests) -> Iterator[tuple[str, str | int]]:
    for ingress in manifests.of("Ingress"):
        for it in ingress["spec"]["rules"][0]["http"]["paths"]:
            yield it["backend"]["service"]["name"], it["backend"]["service"]["port"]["name"]
    for route in manifests.of("HTTPRoute"):
        yield from ((it["name"], it["port"]) for rule in route["spec"]["rules"] for it in rule.get("backendRefs", ()))
    for route in manifests.of("IngressRoute"):
        services = [it for rule in route["spec"]["routes"] for it in rule["services"]]
        yield from ((it["name"], it["port"]) for it in services if "port" in it)
