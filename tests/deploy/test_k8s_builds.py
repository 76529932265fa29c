"""Every overlay builds, and the tools that read manifests find nothing wrong with it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from scripts import manifests as written
from tests.support.manifests import ALL, K8S, built
from tests.support.tools import ROOT, kustomized, tool, valid

pytestmark = pytest.mark.needs("deploy tools")

NEWEST = "1.37"
OLDEST = "1.30"  # what docs/deploy.md promises: pods that sleep before they stop
CUSTOM = {
    "Gateway": "gateway.networking.k8s.io/v1",
    "HTTPRoute": "gateway.networking.k8s.io/v1",
    "IngressRoute": "traefik.io/v1alpha1",
    "Middleware": "traefik.io/v1alpha1",
    "PodMonitor": "monitoring.coreos.com/v1",
    "PrometheusRule": "monitoring.coreos.com/v1",
    "ScaledObject": "keda.sh/v1alpha1",
    "ServersTransport": "traefik.io/v1alpha1",
    "ServiceMonitor": "monitoring.coreos.com/v1",
    "TLSOption": "traefik.io/v1alpha1",
}  # kinds that no schema here knows: test_k8s_models.py holds them to those of their makers


@pytest.fixture(scope="module", name="files")
def _files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return all that is built, a file each, without the text of the dashboard, which takes tools seconds to read."""
    folder = tmp_path_factory.mktemp("built")
    files = [folder / f"{index}.yaml" for index in range(len(ALL))]
    for file, name in zip(files, ALL, strict=True):
        objects = [it for it in built(name).objects if it["metadata"]["name"] != "gateway-dashboard"]
        file.write_text(yaml.dump_all(objects, Dumper=yaml.CSafeDumper), encoding="utf-8")
    return files


@pytest.mark.parametrize("version", [NEWEST, OLDEST])
def test_every_field_is_known_to_kubernetes(files: list[Path], version: str) -> None:
    """Each object is valid, strictly, for the newest Kubernetes and for the oldest that we promise."""
    checked = tool("kubernetes-validate", "--strict", "-k", version, *files)
    said = checked.stdout + checked.stderr
    assert checked.returncode == 0, said
    unknown = dict(re.findall(r"schema for kind (\w+) with api version (\S+)", said))
    assert CUSTOM == unknown
    objects = [it for name in ALL for it in built(name).objects if it["kind"] not in CUSTOM]
    dashboards = [it for it in objects if it["metadata"]["name"] == "gateway-dashboard"]
    assert len(objects) - len(dashboards) == said.count(" passed for resource ")


def test_a_misspelt_field_would_be_found(tmp_path: Path) -> None:
    """The check sees what it is for."""
    gateway = yaml.dump(built("dev").named("Deployment", "gateway"), Dumper=yaml.CSafeDumper)
    valid(gateway, tmp_path)
    with pytest.raises(AssertionError, match="readinesProbe"):
        valid(gateway.replace("readinessProbe", "readinesProbe", 1), tmp_path)


@pytest.mark.parametrize("name", ["nginx", "prometheus-adapter"])
def test_what_goes_into_other_namespaces_builds(name: str, tmp_path: Path) -> None:
    """Settings of the proxy and of the adapter are manifests of their own."""
    valid(kustomized(K8S / "cluster" / name), tmp_path)


def test_checkov_finds_nothing(files: list[Path]) -> None:
    """No check fails in any overlay, beside those that are left out with a reason; and it did look."""
    arguments = [it for file in files for it in ("-f", str(file))]
    checked = tool("checkov", "--config-file", K8S / ".checkov.yaml", "-o", "json", *arguments)
    found = json.loads(checked.stdout)
    assert [] == [(it["check_id"], it["resource"]) for it in found["results"]["failed_checks"]]
    assert found["summary"]["passed"] > 1000
    assert 0 == checked.returncode


def test_every_check_that_is_left_out_has_a_reason() -> None:
    """A line of the list without a word on why would be a finding that somebody hid."""
    listed = (K8S / ".checkov.yaml").read_text(encoding="utf-8").partition("skip-check:\n")[2].splitlines()
    assert listed
    assert all(len(it.partition(" # ")[2]) > 40 for it in listed)


def test_rules_are_those_of_prometheus() -> None:
    """The PrometheusRule is what the script makes of the rules that promtool tests."""
    assert written.prometheus_rule() == written.TARGET.read_text(encoding="utf-8"), "run scripts/manifests.py"
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yml").read_text(encoding="utf-8"))
    assert rules == built("production").named("PrometheusRule", "gateway")["spec"]


def test_the_dashboard_is_that_of_grafana() -> None:
    """The ConfigMap that the sidecar gathers holds the dashboard, byte for byte, and is small enough to be one."""
    dashboard = built("production").named("ConfigMap", "gateway-dashboard")
    text = (ROOT / "deploy" / "grafana" / "dashboards" / "gateway.json").read_text(encoding="utf-8")
    assert {"gateway.json": text} == dashboard["data"]
    assert "1" == dashboard["metadata"]["labels"]["grafana_dashboard"]
    assert len(text.encode()) < 2**20 - 2**16
