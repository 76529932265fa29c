"""Names in different manifests that must agree: labels, ports, secrets, settings; and what pods may not do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from urllib.parse import urlsplit

import pytest

from auth_service import variables
from auth_service.settings import AuthSettings
from tests.deploy.test_k8s_numbers import node_settings
from tests.support.manifests import ALL, K8S, OVERLAYS, Manifests, Object, built, selects

pytestmark = pytest.mark.needs("deploy tools")


@pytest.fixture(name="manifests", params=ALL)
def _manifests(request: pytest.FixtureRequest) -> Manifests:
    return built(request.param)


def _selectors(manifests: Manifests) -> Iterator[tuple[str, Object]]:
    """Yield every selector of pods, and who has it."""
    for it in manifests.of("Deployment", "StatefulSet", "PodDisruptionBudget", "PodMonitor"):
        yield f"{it['kind']} {it['metadata']['name']}", it["spec"]["selector"]
    for it in manifests.of("Service"):
        yield f"Service {it['metadata']['name']}", {"matchLabels": it["spec"]["selector"]}
    for it in manifests.of("NetworkPolicy"):
        yield f"NetworkPolicy {it['metadata']['name']}", it["spec"]["podSelector"]
    for labels, spec in manifests.pods():
        for it in spec.get("topologySpreadConstraints", ()):
            yield f"spread of {labels['app.kubernetes.io/name']}", it["labelSelector"]


def test_every_selector_selects_pods(manifests: Manifests) -> None:
    """A label that is misspelt on one side would leave a Service empty, or a policy without effect."""
    pods = [labels for labels, _ in manifests.pods()]
    idle = [name for name, it in _selectors(manifests) if not any(selects(it, labels) for labels in pods)]
    assert [] == idle


def test_monitors_find_what_they_scrape() -> None:
    """Ports of pods and Services have the names that the monitors look for; jobs are named as in the rules."""
    manifests = built("production")
    (endpoint,) = manifests.named("PodMonitor", "gateway")["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in {it["name"] for it in manifests.container("gateway")["ports"]}
    monitor, service = manifests.named("ServiceMonitor", "auth")["spec"], manifests.named("Service", "auth")
    assert selects(monitor["selector"], service["metadata"]["labels"])
    assert monitor["endpoints"][0]["port"] in {it["name"] for it in service["spec"]["ports"]}
    assert "auth" == service["metadata"]["labels"][monitor["jobLabel"]]
    pod_monitor = manifests.named("PodMonitor", "gateway")["spec"]
    assert "gateway" == pod_monitor["selector"]["matchLabels"][pod_monitor["jobLabel"]]


def test_services_and_probes_name_ports_that_are_open(manifests: Manifests) -> None:
    """What a Service, a probe or a route points to is a port of the container."""
    for it in manifests.of("Service"):
        open_ports = {port["name"]: port["containerPort"] for port in _only(manifests, it)["ports"]}
        for port in it["spec"]["ports"]:
            assert port["port"] == open_ports[port["targetPort"]]
    for _, spec in manifests.pods():
        for container in spec["containers"]:
            names = {port["name"] for port in container["ports"]}
            probes = [container[it] for it in ("startupProbe", "readinessProbe", "livenessProbe") if it in container]
            assert len(probes) >= 2
            asked = {probe[way]["port"] for probe, way in product(probes, ("httpGet", "tcpSocket")) if way in probe}
            assert asked <= names


def _only(manifests: Manifests, service: Object) -> Object:
    return manifests.container(service["spec"]["selector"]["app.kubernetes.io/name"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_node_listens_where_it_is_looked_for(overlay: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Ports of the settings are those of the container, and what is internal has a port of its own."""
    settings = node_settings(overlay, tmp_path_factory.mktemp("settings"))
    ports = {it["name"]: it["containerPort"] for it in built(overlay).container("gateway")["ports"]}
    server = settings.http_server
    assert {"public": server.port, "internal": server.internal_port} == ports
    assert "0.0.0.0" == server.address
    assert server.trusted_proxies, "all clients of a proxy would share one address"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_gateway_and_auth_service_find_each_other(overlay: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """URLs name Services and their ports; issuer, audience and API key are the same on both sides."""
    manifests = built(overlay)
    token = node_settings(overlay, tmp_path_factory.mktemp("settings")).client.token
    auth = manifests.named("ConfigMap", "auth-settings")["data"]
    assert (auth["AUTH_ISSUER"], auth["AUTH_AUDIENCE"]) == (token.issuer, token.audience)
    for url in (token.jwks_public_endpoint, auth["AUTH_GATEWAY_URLS"]):
        parts = urlsplit(url)
        service = manifests.named("Service", str(parts.hostname))
        assert parts.port in {it["port"] for it in service["spec"]["ports"]}
    if overlay == "dev":
        key = manifests.secret("auth-secrets")["gateway-api-key"]
        assert f'key = "{key}"' in manifests.secret("gateway-secrets")["gateway.toml"]


def test_settings_of_the_auth_service_exist(manifests: Manifests, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable is misspelt, and each has a value that it takes."""
    data: dict[str, str] = manifests.named("ConfigMap", "auth-settings")["data"]
    assert [] == list(variables.faults(data, AuthSettings.model_fields))
    assert {it for it in data if not it.startswith("AUTH_")} <= {"PGSSLROOTCERT"}
    for name, value in data.items():
        monkeypatch.setenv(name, value)
    assert AuthSettings().gateway_urls


def test_files_that_settings_name_are_mounted(manifests: Manifests) -> None:
    """Every path in a variable or a command lies below something that is mounted there, or is a program's own."""
    for name, source in (("gateway", "gateway-settings"), ("auth", "auth-settings")):
        container = manifests.container(name)
        mounts = [it["mountPath"] for it in container["volumeMounts"]]
        data = manifests.named("ConfigMap", source)["data"]
        paths = [it for it in (*data.values(), *container["command"]) if it.startswith("/")]
        assert paths
        assert [] == [it for it in paths if not any(f"{it}/".startswith(f"{mount}/") for mount in mounts)]


def test_secrets_hold_what_is_read() -> None:
    """The dev overlay brings each file that the settings name; for production an example says how each looks."""
    manifests = built("dev")
    files = [it for it in manifests.named("ConfigMap", "auth-settings")["data"].values() if it.startswith("/etc/auth/")]
    assert files
    assert {it.removeprefix("/etc/auth/") for it in files} == manifests.secret("auth-secrets").keys()
    text = (K8S / "overlays" / "production" / "secrets" / "README.md").read_text(encoding="utf-8")
    production = built("production")
    for it in production.named("ConfigMap", "auth-settings")["data"].values():
        assert not it.startswith("/etc/auth/") or it.removeprefix("/etc/auth/") in text
    wanted = {volume["secret"]["secretName"] for _, spec in production.pods() for volume in _secrets(spec)}
    assert {"gateway-secrets", "auth-secrets", "auth-keys"} == wanted
    assert all(f"create secret generic {it}" in text for it in wanted)


def _secrets(spec: Object) -> list[Object]:
    return [it for it in spec["volumes"] if "secret" in it]


def test_no_secret_is_in_the_environment(manifests: Manifests) -> None:
    """Secrets are files that only the pod's own user and group read: variables end up in crash reports and children."""
    for _, spec in manifests.pods():
        for container in spec["containers"]:
            assert not any("secretKeyRef" in it.get("valueFrom", {}) for it in container.get("env", ()))
            assert not any("secretRef" in it for it in container.get("envFrom", ()))
        assert {0o440} >= {it["secret"]["defaultMode"] for it in _secrets(spec)}
    for it in manifests.of("ConfigMap"):
        if it["metadata"]["name"] != "gateway-dashboard":
            assert not re.search(r"://[^/\s]*@|demo-only|PASSWORD", str(it["data"]))


def test_pods_are_restricted(manifests: Manifests) -> None:
    """What the Pod Security Standard `restricted` asks for, and beyond it: nothing to write to, no token, no links."""
    namespace = manifests.named("Namespace", "realtime")["metadata"]["labels"]
    assert "restricted" == namespace["pod-security.kubernetes.io/enforce"]
    for _, spec in manifests.pods():
        user = spec["securityContext"]
        assert user["runAsNonRoot"] is True
        assert user["runAsUser"] >= 10_000
        assert {"type": "RuntimeDefault"} == user["seccompProfile"]
        assert spec["enableServiceLinks"] is spec["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        kinds = {kind for volume in spec["volumes"] for kind in volume.keys() - {"name"}}
        assert kinds <= {"configMap", "emptyDir", "secret"}
        for container in spec["containers"]:
            expected = {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert expected == container["securityContext"]


def test_an_eviction_takes_one_at_a_time(manifests: Manifests) -> None:
    """Gateway and auth service have a budget, which a broken pod does not use up."""
    budgets = {it["metadata"]["name"]: it["spec"] for it in manifests.of("PodDisruptionBudget")}
    assert {"gateway", "auth"} == budgets.keys()
    assert all(
        (1, "AlwaysAllow") == (it["maxUnavailable"], it["unhealthyPodEvictionPolicy"]) for it in budgets.values()
    )
