"""Manifests of `deploy/k8s/` as they are built: overlays, and bases with other components than the overlays take."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import yaml

from gateway import __version__
from tests.support.tools import ROOT, kustomized

K8S: Final = ROOT / "deploy" / "k8s"
OVERLAYS: Final = ("dev", "production")
# What an overlay may take instead of what ours take.
VARIANTS: Final[Mapping[str, tuple[str, ...]]] = {
    "traefik and keda": ("valkey", "postgres", "traefik", "monitoring", "scaling-keda"),
    "gateway api": ("gateway-api", "scaling-prometheus-adapter"),
}
ALL: Final = (*OVERLAYS, *VARIANTS)
_UNITS: Final = {"m": 1e-3, "": 1.0, "k": 1e3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Manifests:
    """Everything that one folder builds."""

    text: str
    objects: Sequence[Object]

    def of(self, *kinds: str) -> list[Object]:
        """Return all objects of these kinds."""
        return [it for it in self.objects if it["kind"] in kinds]

    def named(self, kind: str, name: str) -> Object:
        """Return one object; a generated name is known by what it begins with."""
        found = [it for it in self.of(kind) if re.fullmatch(rf"{name}(-[a-z0-9]{{10}})?", it["metadata"]["name"])]
        assert len(found) == 1, f"{len(found)} of {kind} {name}"
        return found[0]

    def workloads(self) -> list[Object]:
        """Return what makes pods."""
        return self.of("Deployment", "StatefulSet", "Job")

    def pods(self) -> Iterator[tuple[Mapping[str, str], Object]]:
        """Yield labels and specification of each kind of pod."""
        for it in self.workloads():
            template = it["spec"]["template"]
            yield template["metadata"]["labels"], template["spec"]

    def pod(self, name: str) -> Object:
        """Return the specification of the pods of one name."""
        return next(spec for labels, spec in self.pods() if labels["app.kubernetes.io/name"] == name)

    def container(self, name: str) -> Object:
        """Return the only container of the pods of one name."""
        (only,) = self.pod(name)["containers"]
        return dict(only)

    def secret(self, name: str) -> Mapping[str, str]:
        """Return what a secret that is built along holds."""
        data = self.named("Secret", name)["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}


@cache
def built(name: str) -> Manifests:
    """Return what an overlay or a variant builds."""
    text = _variant(VARIANTS[name]) if name in VARIANTS else kustomized(K8S / "overlays" / name)
    return Manifests(text, [it for it in yaml.load_all(text, yaml.CSafeLoader) if it])


def _variant(components: Sequence[str]) -> str:
    with TemporaryDirectory() as folder:
        here = os.path.relpath(K8S, Path(folder).resolve())
        kustomization = {
            "namespace": "realtime",
            "resources": [f"{here}/base"],
            "components": [f"{here}/components/{it}" for it in components],
            "images": [{"name": it, "newTag": __version__} for it in ("realtime-gateway", "realtime-gateway-auth")],
        }
        (Path(folder) / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")
        return kustomized(Path(folder))


def quantity(text: str | float) -> float:
    """Return the number behind 100m, 2Gi or 0.5."""
    match = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(text))
    assert match is not None, text
    return float(match[1]) * _UNITS[match[2]]


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes in whoever has these labels; of expressions, `In` is what we use."""
    exact = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    assert all(it["operator"] == "In" for it in selector.get("matchExpressions", ()))
    return exact and all(labels.get(it["key"]) in it["values"] for it in selector.get("matchExpressions", ()))
