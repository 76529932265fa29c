"""Custom resources have the form that their makers give them: fields, types, and values that are one of a few."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Final

import pytest

from tests.deploy.test_k8s_builds import CUSTOM
from tests.support.manifests import ALL, Object, built
from tests.support.tools import MODELS, ended

pytestmark = [pytest.mark.needs("deploy tools"), pytest.mark.needs("models")]

PACKAGES: Final = {
    "gateway.networking.k8s.io": "gateway-api",
    "keda.sh": "keda",
    "monitoring.coreos.com": "prometheus-operator",
    "traefik.io": "traefik",
}
MISSPELT: Final = (("inFlightReq", "inFlightReqs"), ("podMetricsEndpoints", "endpoints"), ('"PathPrefix"', '"Prefix"'))
OPTIONS = ("--strict", "--noEmit", "--skipLibCheck", "--module", "nodenext", "--moduleResolution", "nodenext")


def faults(objects: Iterable[Object]) -> str:
    """Return what the compiler says to the objects as literals of their types: an unknown field is a fault."""
    lines = []
    for index, it in enumerate(objects):
        group, kind = it["apiVersion"].partition("/")[0], it["kind"]
        source = f"@kubernetes-models/{PACKAGES[group]}/{it['apiVersion']}/{kind}"
        lines += [f'import type {{ I{kind} as T{index} }} from "{source}";']
        lines += [f"export const object{index}: T{index} = {json.dumps(it)};"]
    # beside the packages, where the compiler looks for them
    file = MODELS / "node_modules" / ".cache" / f"objects-{os.getpid()}.ts"
    file.parent.mkdir(exist_ok=True)
    file.write_text("\n".join(lines), encoding="utf-8")
    compiler = MODELS / "node_modules" / "typescript" / "bin" / "tsc"
    said = ended(["node", str(compiler), *OPTIONS, str(file)]).stdout
    file.unlink()
    return said


def _custom() -> list[Object]:
    return [it for name in ALL for it in built(name).of(*CUSTOM)]


def test_custom_resources_are_what_their_makers_know() -> None:
    """Every one of them, in every overlay and with every component, is of its type."""
    objects = _custom()
    assert CUSTOM.keys() == {it["kind"] for it in objects}
    assert "" == faults(objects)


def test_what_is_misspelt_would_be_found() -> None:
    """Fields that nobody knows, and a value that is none of those that there are."""
    text = json.dumps(_custom())
    for right, wrong in MISSPELT:
        assert right in text
        text = text.replace(right, wrong)
    found = faults(json.loads(text))
    assert [] == [wrong for _, wrong in MISSPELT if wrong.strip('"') not in found]


def test_versions_are_locked() -> None:
    """The packages are those of the lock, each with its digest."""
    lock = json.loads((MODELS / "package-lock.json").read_text(encoding="utf-8"))
    packages = {name: it for name, it in lock["packages"].items() if name}
    assert {f"node_modules/@kubernetes-models/{it}" for it in PACKAGES.values()} <= packages.keys()
    assert all(it["integrity"].startswith("sha512-") for it in packages.values())
