"""What docs/deploy.md says about the manifests and about sizes is what stands there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.deploy.test_k8s_builds import NEWEST, OLDEST
from tests.deploy.test_k8s_numbers import node_settings
from tests.support.manifests import K8S, built
from tests.support.tools import ROOT

PAGE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
WORKLOADS = ("rooms", "live", "notifications")


def _rows(text: str, mark: str) -> Mapping[str, list[str]]:
    """Return the rows of a marked table by their first cell."""
    lines = text.partition(f"<!-- {mark} -->\n")[2].partition("<!-- /")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first: rest for first, *rest in cells}


def test_sizes_are_those_of_the_model() -> None:
    """Pods and servers of Redis for each number of connections are copied from the page that the model writes."""
    scaling = (ROOT / "docs" / "topics" / "scaling.md").read_text(encoding="utf-8")
    tables = [_rows(scaling, it) for it in WORKLOADS]
    expected = {size: [f"{it[size][1]}, {it[size][3]}" for it in tables] for size in tables[0]}
    assert len(expected) == 4
    assert expected == _rows(PAGE, "sizing")


@pytest.mark.needs("deploy tools")
def test_numbers_of_the_page_are_deployed(tmp_path: Path) -> None:
    """Grace, delays, limits and targets in the page's table."""
    manifests, settings = built("production"), node_settings("production", tmp_path)
    shutdown, spec = settings.shutdown, manifests.named("Deployment", "gateway")["spec"]
    grace = manifests.pod("gateway")["terminationGracePeriodSeconds"]
    scaler = manifests.named("HorizontalPodAutoscaler", "gateway")["spec"]
    limit = settings.client.connection_limit
    delay, window, timeout = shutdown.delay, shutdown.window, shutdown.timeout
    for line in (
        (
            f"| `terminationGracePeriodSeconds` | {grace} s | delay {delay:g} s + window {window:g} s "
            f"+ timeout {timeout:g} s"
        ),
        f"| `minReadySeconds` | {spec['minReadySeconds']} s |",
        f"| `client.connection_limit` | {limit:,} | half of it, {limit // 2:,}, is the autoscaler's target",
        f"| autoscaler | {scaler['minReplicas']} to {scaler['maxReplicas']} nodes",
        f"| per address | {settings.http_server.connections_per_ip} open, 50 a second |",
        f"Nodes ping every {settings.client.ping_interval:g} s and wait {settings.client.pong_timeout:g} s",
        f"a Kubernetes cluster, {OLDEST} or newer",
    ):
        assert line in PAGE
    assert f"Kubernetes {OLDEST} and {NEWEST}" in PAGE.replace("\n", " ")
    assert str(limit // 2) == scaler["metrics"][0]["pods"]["target"]["averageValue"]


def test_folders_of_the_page_are_there() -> None:
    """Each component and overlay is listed, and no other."""
    listed = re.findall(r"([a-z-]+)/", PAGE.partition("deploy/k8s/\n")[2].partition("```")[0])
    there = [it.name for it in K8S.iterdir() if it.is_dir()]
    there += [it.name for folder in ("components", "overlays") for it in (K8S / folder).iterdir()]
    assert sorted(there) == sorted({*listed} | {"overlays"})
