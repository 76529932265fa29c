"""Numbers in different files that must agree, or clients are cut off, nodes killed and limits never reached."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from auth_service.server import GRACE_SECONDS
from auth_service.settings import AuthSettings
from gateway import __version__
from gateway.leaving import SLACK, errands
from gateway.lifespan import END
from gateway.metrics import GAUGES, HISTOGRAMS
from gateway.settings import Settings, check
from gateway.settings.durations import parse_duration
from gateway.stopping import GIVE_WAY
from tests.support.manifests import ALL, K8S, OVERLAYS, Manifests, Object, built, quantity
from tests.support.tools import ROOT

pytestmark = pytest.mark.needs("deploy tools")

CONSTANTS = tomllib.loads((ROOT / "loadtests" / "plan" / "constants.toml").read_text(encoding="utf-8"))
NGINX = ("nginx.org/", "nginx.ingress.kubernetes.io/")
SPARE_SECONDS = 10.0  # between the last thing that is awaited and SIGKILL


@pytest.fixture(name="overlay", params=OVERLAYS)
def _overlay(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(name="settings")
def _settings(overlay: str, tmp_path: Path) -> Settings:
    """Read the settings of a node as it will: the file with secrets, and variables over it."""
    return node_settings(overlay, tmp_path)


def node_settings(overlay: str, folder: Path) -> Settings:
    """Return the settings of a node; nothing is wrong with them."""
    manifests = built(overlay)
    file = folder / "gateway.toml"
    if overlay == "production":
        example = K8S / "overlays" / "production" / "secrets" / "gateway.toml.example"
        file.write_text(example.read_text(encoding="utf-8"), encoding="utf-8")
    else:
        file.write_text(manifests.secret("gateway-secrets")["gateway.toml"], encoding="utf-8")
    variables: Mapping[str, str] = manifests.named("ConfigMap", "gateway-settings")["data"]
    names = {it["name"]: "pod" for it in manifests.container("gateway")["env"]}
    checked = check(config=file, environ={**variables, **names})
    assert [] == checked.faults
    assert [] == checked.warnings
    assert checked.settings is not None
    return checked.settings


@pytest.fixture(name="manifests", params=ALL)
def _manifests(request: pytest.FixtureRequest) -> Manifests:
    return built(request.param)


def test_a_drain_ends_before_the_pod_is_killed(settings: Settings, overlay: str) -> None:
    """Delay, window, the last closes, what the hook waits for and an end that hangs fit into the grace."""
    manifests = built(overlay)
    pod, shutdown = manifests.pod("gateway"), settings.shutdown
    grace = pod["terminationGracePeriodSeconds"]
    assert shutdown.delay + shutdown.window + shutdown.timeout + SLACK + SPARE_SECONDS <= grace
    assert shutdown.delay + shutdown.window + shutdown.timeout + SLACK + END + 2 * GIVE_WAY <= grace
    (errand,) = errands(settings, wait=True)
    assert errand.timeout + SPARE_SECONDS <= grace
    hook = manifests.container("gateway")["lifecycle"]["preStop"]["exec"]["command"]
    assert ["gateway", "drain", "--wait", "--config", "/etc/gateway/gateway.toml"] == hook
    assert manifests.container("gateway")["command"][2:] == hook[3:]


def test_an_update_drains_one_node_after_the_other(settings: Settings, overlay: str) -> None:
    """A new node stands for as long as a drain takes before the next one goes, and no node goes before it stands."""
    spec = built(overlay).named("Deployment", "gateway")["spec"]
    assert {"maxSurge": 1, "maxUnavailable": 0} == spec["strategy"]["rollingUpdate"]
    assert spec["minReadySeconds"] >= settings.shutdown.delay + settings.shutdown.window
    assert spec["progressDeadlineSeconds"] > spec["minReadySeconds"] + 60


def test_load_balancers_notice_within_the_delay(settings: Settings, overlay: str) -> None:
    """A node that is not ready any more is known to be so before it takes no newcomers."""
    probe = built(overlay).container("gateway")["readinessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] <= settings.shutdown.delay


def test_a_node_that_lags_is_not_killed(manifests: Manifests) -> None:
    """Liveness needs most of a minute of silence; a start has time; neither asks for anything beyond the process."""
    for name in ("gateway", "auth"):
        container = manifests.container(name)
        live, start = container["livenessProbe"], container["startupProbe"]
        assert live["periodSeconds"] * live["failureThreshold"] >= 60
        assert start["periodSeconds"] * start["failureThreshold"] >= 60
        assert {"/health/live"} == {live["httpGet"]["path"], start["httpGet"]["path"]}
        assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"


def test_the_auth_service_ends_in_its_grace(manifests: Manifests) -> None:
    """The hook sleeps, then open requests have their time; both end before the pod is killed."""
    pod, container = manifests.pod("auth"), manifests.container("auth")
    sleep = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert sleep + GRACE_SECONDS + SPARE_SECONDS <= pod["terminationGracePeriodSeconds"]


def test_idle_connections_outlive_the_proxy(settings: Settings) -> None:
    """Between two pings, and the time for the pong, no proxy has given a connection up."""
    quiet = settings.client.ping_interval + settings.client.pong_timeout
    annotations = built("production").named("Ingress", "realtime")["metadata"]["annotations"]
    for prefix in NGINX:
        for way in ("read", "send"):
            assert quiet * 2 <= parse_duration(annotations[f"{prefix}proxy-{way}-timeout"])
    (route,) = [it for it in built("gateway api").of("HTTPRoute") if it["metadata"]["name"] == "gateway"]
    assert all({"request": "0s", "backendRequest": "0s"} == rule["timeouts"] for rule in route["spec"]["rules"])


def test_a_full_node_fits_into_its_memory(settings: Settings, overlay: str) -> None:
    """With as many connections as are let in, at the high ends of what each may cost, a node still lets people in."""
    manifests = built(overlay)
    memory = {name: it["high"] for name, it in CONSTANTS["memory"].items()}
    each = memory["connection"] + memory["kernel"] + memory["waiting"]
    limit = quantity(manifests.container("gateway")["resources"]["limits"]["memory"])
    assert settings.client.connection_limit > 0
    assert memory["node"] + settings.client.connection_limit * each < 0.8 * limit


def test_memory_asked_for_is_memory_allowed(manifests: Manifests) -> None:
    """No pod lives on memory that nobody has promised it."""
    for _, spec in manifests.pods():
        for it in spec["containers"]:
            assert it["resources"]["requests"]["memory"] == it["resources"]["limits"]["memory"]
            assert "cpu" not in it["resources"]["limits"]


def test_hashing_fits_into_the_memory_of_the_auth_service(manifests: Manifests) -> None:
    """Two passwords at once, three times as much for everything else."""
    fields = AuthSettings.model_fields
    hashing = fields["hash_workers"].default * fields["hash_memory_kib"].default * 1024
    assert hashing * 4 < quantity(manifests.container("auth")["resources"]["limits"]["memory"])


def test_limits_of_proxies_are_those_of_nodes(settings: Settings) -> None:
    """What an address may hold open is counted alike by everybody who counts it."""
    allowed = settings.http_server.connections_per_ip
    annotations = built("production").named("Ingress", "realtime")["metadata"]["annotations"]
    assert allowed == int(annotations["nginx.ingress.kubernetes.io/limit-connections"])
    limits = {it["metadata"]["name"]: it["spec"] for it in built("traefik and keda").of("Middleware")}
    assert allowed == limits["connections"]["inFlightReq"]["amount"]
    rate, burst = limits["requests"]["rateLimit"]["average"], limits["requests"]["rateLimit"]["burst"]
    own = annotations["nginx.org/limit-req-rate"], annotations["nginx.org/limit-req-burst"]
    assert (f"{rate}r/s", str(burst)) == own
    assert str(rate) == annotations["nginx.ingress.kubernetes.io/limit-rps"]


def test_traefik_does_the_same_in_a_cluster_as_before_machines() -> None:
    """Middlewares, transport, ciphers, paths and their order are those of the files that the tests of proxies run."""
    tree = yaml.safe_load((ROOT / "deploy" / "traefik" / "gateway.yml").read_text(encoding="utf-8"))
    manifests = built("traefik and keda")
    assert tree["http"]["middlewares"] == {it["metadata"]["name"]: it["spec"] for it in manifests.of("Middleware")}
    assert tree["http"]["serversTransports"] == {"near": manifests.named("ServersTransport", "near")["spec"]}
    assert tree["tls"]["options"] == {"default": manifests.named("TLSOption", "modern")["spec"]}
    named = [tree["http"]["routers"][it] for it in ("websockets", "streams", "log-in")]
    routes = manifests.named("IngressRoute", "realtime")["spec"]["routes"]
    assert [(it["rule"], it["priority"], it["middlewares"]) for it in named] == [
        (it["match"].partition(" && ")[2], it["priority"], [one["name"] for one in it["middlewares"]]) for it in routes
    ]
    assert {"Host(`gateway.example.com`)"} == {it["match"].partition(" && ")[0] for it in routes}


def _target(metric: Object) -> tuple[str, float]:
    return metric["pods"]["metric"]["name"], quantity(metric["pods"]["target"]["averageValue"])


def test_both_autoscalers_want_the_same() -> None:
    """The adapter's and KEDA's have the same bounds, targets and pace."""
    own = built("production").named("HorizontalPodAutoscaler", "gateway")["spec"]
    keda = built("traefik and keda").named("ScaledObject", "gateway")["spec"]
    assert (own["minReplicas"], own["maxReplicas"]) == (keda["minReplicaCount"], keda["maxReplicaCount"])
    assert own["behavior"] == keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    thresholds = [float(it["metadata"]["threshold"]) for it in keda["triggers"]]
    assert thresholds == [value for _, value in map(_target, own["metrics"])]
    for scaled in (own, keda):
        assert "gateway" == scaled["scaleTargetRef"]["name"]
    for name in ("production", "traefik and keda"):
        assert "replicas" not in built(name).named("Deployment", "gateway")["spec"]


def test_a_lost_zone_fits_into_the_others(tmp_path: Path) -> None:
    """At the target of the autoscaler, two zones of three can take everybody without refusing."""
    settings = node_settings("production", tmp_path)
    own = built("production").named("HorizontalPodAutoscaler", "gateway")["spec"]
    targets = dict(map(_target, own["metrics"]))
    assert targets["gateway_open_connections"] * 1.5 <= settings.client.connection_limit
    assert own["minReplicas"] >= 3


def test_autoscalers_ask_for_metrics_that_exist() -> None:
    """The names come from the gateway's own tables, through the adapter's rules, in the namespace of the pods."""
    told = {f"gateway_{it}" for it in GAUGES} | {f"gateway_{it.name}_bucket" for it in HISTOGRAMS.values()}
    path = K8S / "cluster" / "prometheus-adapter" / "config.yaml"
    rules: list[dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))["rules"]
    assert {it["seriesQuery"].partition("{")[0] for it in rules} <= told
    own = built("production").named("HorizontalPodAutoscaler", "gateway")["spec"]
    assert {it["name"]["as"] for it in rules} == {name for name, _ in map(_target, own["metrics"])}
    scaled = built("traefik and keda").named("ScaledObject", "gateway")
    for trigger in scaled["spec"]["triggers"]:
        query = trigger["metadata"]["query"]
        assert any(f"{it}{{" in query for it in told)
        assert f'namespace="{scaled["metadata"]["namespace"]}"' in query


def test_images_are_of_this_release(manifests: Manifests) -> None:
    """Tags follow the version of the source, and pods run as the user that the images are made for."""
    images = [it["image"] for _, spec in manifests.pods() for it in spec["containers"]]
    ours = [it for it in images if "realtime-gateway" in it]
    assert len(ours) == 2
    assert {__version__} == {it.rpartition(":")[2] for it in ours}
    for name in ("gateway", "auth"):
        text = (ROOT / "deploy" / "docker" / f"{name}.Dockerfile").read_text(encoding="utf-8")
        user = manifests.pod(name)["securityContext"]
        assert f"\nUSER {user['runAsUser']}:{user['runAsGroup']}\n" in text
