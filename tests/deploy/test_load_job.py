"""The generator of load as a Kubernetes Job: valid, locked down, and saying things that the kit understands."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest
import typer
import yaml

from gateway.settings import check
from loadtests.cli import app
from loadtests.kit.local import NAMESPACES
from loadtests.kit.outputs import PRINTED
from loadtests.kit.profile import read
from tests.deploy.test_images import UID, only
from tests.support.manifests import K8S, Manifests, built, quantity, selects
from tests.support.tools import ROOT, kustomized, tool, valid

pytestmark = pytest.mark.needs("deploy tools")

LOAD: Final = K8S / "load"
VARIABLE: Final = re.compile(r"\$\((\w+)\)")


@cache
def job() -> Manifests:
    """Return what the folder builds."""
    text = kustomized(LOAD)
    return Manifests(text, list(yaml.safe_load_all(text)))


def container() -> Mapping[str, Any]:
    """Return the one container."""
    return job().container("load")


@cache
def target() -> Manifests:
    """Return the overlay for trying things out, with what lets the load in."""
    with TemporaryDirectory() as folder:
        here = os.path.relpath(K8S, Path(folder).resolve())
        parts = {"resources": [f"{here}/overlays/dev"], "components": [f"{here}/load/target"]}
        (Path(folder) / "kustomization.yaml").write_text(yaml.safe_dump(parts), encoding="utf-8")
        text = kustomized(Path(folder))
    return Manifests(text, list(yaml.safe_load_all(text)))


def variables() -> dict[str, str]:
    """Return what the container is given in its environment, with what a pod of the job and its reader fill in."""
    (own,) = container()["env"]
    return {**job().named("ConfigMap", "load-settings")["data"], own["name"]: "3", "KID": "2026-11"}


def arguments() -> list[str]:
    """Return what the container is started with, as the kubelet fills it in."""
    return [VARIABLE.sub(lambda it: variables()[it[1]], it) for it in container()["args"]]


def parsed(words: Sequence[str]) -> dict[str, Any]:
    """Return the options of the kit's command `run`; fails on what it does not know."""
    command = typer.main.get_command(app)
    run = command.commands[words[0]]  # type: ignore[attr-defined] # what typer makes is a group
    return dict(run.make_context("run", list(words[1:])).params)


# --- the manifests


def test_the_folder_builds_and_is_valid(tmp_path: Path) -> None:
    """Every field is one that Kubernetes knows."""
    assert ["ConfigMap", "ConfigMap", "Job", "NetworkPolicy"] == sorted(it["kind"] for it in job().objects)
    valid(job().text, tmp_path)


def test_checkov_finds_nothing(tmp_path: Path) -> None:
    """Nothing but what the reasons in its configuration speak of."""
    path = tmp_path / "load.yaml"
    path.write_text(job().text, encoding="utf-8")
    checked = tool("checkov", "--config-file", K8S / ".checkov.yaml", "--file", path, "--output", "json")
    found = json.loads(checked.stdout)
    assert [] == [(it["check_id"], it["resource"]) for it in found.get("results", {}).get("failed_checks", [])]
    assert found.get("summary", found)["passed"] > 50


def test_the_pod_may_do_next_to_nothing() -> None:
    """What `restricted` asks for and more: no root, nothing to write but reports, no token of the cluster."""
    pod = job().pod("load")
    security = pod["securityContext"]
    assert security["runAsNonRoot"]
    assert [UID] * 3 == [security[it] for it in ("runAsUser", "runAsGroup", "fsGroup")]
    assert "RuntimeDefault" == security["seccompProfile"]["type"]
    assert not pod["automountServiceAccountToken"]
    own = container()["securityContext"]
    assert own["readOnlyRootFilesystem"]
    assert not own["allowPrivilegeEscalation"]
    assert ["ALL"] == own["capabilities"]["drop"]
    kinds = {it["name"]: set(it) - {"name"} for it in pod["volumes"]}
    assert {"profile": {"configMap"}, "key": {"secret"}, "reports": {"emptyDir"}} == kinds
    writable = [it["mountPath"] for it in container()["volumeMounts"] if not it.get("readOnly")]
    assert [only(ROOT / "deploy" / "docker" / "load.Dockerfile", "WORKDIR")] == writable


def test_no_run_is_repeated_and_none_ends_the_others() -> None:
    """Each pod plays once; what it found counts whatever became of the others; all of them play at once."""
    spec = job().named("Job", "load")["spec"]
    assert "Indexed" == spec["completionMode"]
    assert spec["completions"] == spec["parallelism"]
    assert 0 == spec["backoffLimitPerIndex"]
    assert "backoffLimit" not in spec
    assert "Never" == spec["template"]["spec"]["restartPolicy"]
    profile = read(str(LOAD / "profile.yaml"))
    assert spec["activeDeadlineSeconds"] > 2 * (profile.ramp + profile.warm_up + profile.duration + profile.settle)


# --- what it says to the kit


def test_the_command_is_one_of_the_kits() -> None:
    """Every option is known; each pod has a seed of its own; as many processes as it has cores."""
    found = parsed(arguments())
    assert "mixed" == found["scenario"]
    assert ["seed=3"] == list(found["change"])
    assert PRINTED == found["json"]
    assert "2026-11" == found["kid"]
    resources = container()["resources"]
    assert quantity(resources["limits"]["cpu"]) == quantity(resources["requests"]["cpu"]) == found["processes"]
    assert resources["limits"] == resources["requests"]  # it is not the one that is put out of a full machine
    assert variables().keys() == {it for text in container()["args"] for it in VARIABLE.findall(text)}


def test_what_it_reads_is_mounted() -> None:
    """Profile and key are where the command looks for them, by the names they have in their volumes."""
    found, pod = parsed(arguments()), job().pod("load")
    mounts = {it["name"]: Path(it["mountPath"]) for it in container()["volumeMounts"]}
    assert mounts["profile"] / "profile.yaml" == found["profile"]
    assert mounts["key"] / "key" == found["key"]
    assert mounts["reports"] == found["report"]
    generated = job().named("ConfigMap", "load-profile")
    assert {"profile.yaml"} == set(generated["data"])
    (volume,) = [it["configMap"] for it in pod["volumes"] if it["name"] == "profile"]
    assert generated["metadata"]["name"] == volume["name"]


def test_the_profile_can_be_played() -> None:
    """The kit reads it, for the scenario of the command, in a namespace that the target is given."""
    profile = read(str(LOAD / "profile.yaml"))
    assert parsed(arguments())["scenario"] == profile.scenario
    assert profile.namespace in NAMESPACES


# --- what it meets


def test_it_reaches_the_gateway_and_nothing_else() -> None:
    """Its policy names the pods and the port of the gateway, and names; the target lets in just that."""
    found = parsed(arguments())
    (url,) = found["target"]
    service = target().named("Service", "gateway")
    (port,) = service["spec"]["ports"]
    assert f"http://{service['metadata']['name']}:{port['port']}" == url
    labels = target().named("Deployment", "gateway")["spec"]["template"]["metadata"]["labels"]
    (listening,) = [it["containerPort"] for it in target().container("gateway")["ports"] if it["name"] == "public"]
    policy = job().named("NetworkPolicy", "load")["spec"]
    to_gateway, to_names = policy["egress"]
    assert {"Ingress", "Egress"} == set(policy["policyTypes"])
    assert "ingress" not in policy
    assert selects(to_gateway["to"][0]["podSelector"], labels)
    assert [listening] == [it["port"] for it in to_gateway["ports"]]
    assert {53} == {it["port"] for it in to_names["ports"]}
    admits = target().named("NetworkPolicy", "from-load")["spec"]
    (rule,) = admits["ingress"]
    mine = job().named("Job", "load")["spec"]["template"]["metadata"]["labels"]
    assert selects(admits["podSelector"], labels)
    assert selects(rule["from"][0]["podSelector"], mine)
    assert to_gateway["ports"] == rule["ports"]
    assert job().named("Job", "load")["metadata"]["namespace"] == service["metadata"]["namespace"]


def test_the_target_takes_the_load() -> None:
    """Its settings are good, lift what holds strangers off, and have the namespaces that profiles ask for."""
    plain, lifted = (it.named("ConfigMap", "gateway-settings")["data"] for it in (built("dev"), target()))
    assert plain.keys() < lifted.keys()
    checked = check({}, environ=lifted)
    assert [] == checked.faults
    settings = checked.settings
    assert settings is not None
    limits = (settings.client.connection_rate_limit, settings.client.command_rate, settings.client.rejoin_rate)
    assert (0, 0, 0) == limits
    assert 0 == settings.http_server.connections_per_ip
    assert [{"name": name, **options} for name, options in NAMESPACES.items()] == json.loads(
        lifted["GATEWAY_CHANNEL__NAMESPACES"]
    )
    issuer = parsed(arguments())["issuer"]
    assert settings.client.token.issuer == issuer
