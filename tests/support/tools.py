"""The programs that will consume what is in `deploy/`, and what builds images; not in the tests' own environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent.parent
TOOLS: Final = Path(sys.prefix) / "deploy" / "bin"
MODELS: Final = ROOT / "tests" / "deploy" / "models"
BUILDERS: Final = ("buildah", "mmdebstrap", "unshare")
SECONDS: Final = 600.0  # checkov takes four of a core that is free


def there() -> bool:
    """Whether the tools are installed."""
    return all(
        (TOOLS / name).is_file()
        for name in ("check-jsonschema", "checkov", "hadolint", "kubectl", "kubernetes-validate", "traefik")
    )


def models_missing() -> str:
    """Return why custom resources cannot be held to their types; empty = they can."""
    return "" if (MODELS / "node_modules" / "typescript").is_dir() else "no models: `make test` installs them"


def cannot_build() -> str:
    """Return why no image can be built on this machine; empty = it can."""
    if os.geteuid() != 0:
        return "images are built by root only"
    missing = [name for name in BUILDERS if shutil.which(name) is None]
    return f"no {' and no '.join(missing)} on PATH" if missing else ""


def tool(name: str, *arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run one of the tools from the root of the repository, to its end."""
    return ended([str(TOOLS / name), *map(str, arguments)], stdin=stdin)


def ended(
    command: Sequence[str], *, stdin: str = "", seconds: float = SECONDS, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program from the root of the repository, to its end."""
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=seconds, check=False, cwd=ROOT, env=environ
    )


def kustomized(folder: Path) -> str:
    """Return the manifests that a kustomize folder builds."""
    built = tool("kubectl", "kustomize", folder)
    assert built.returncode == 0, built.stderr
    return built.stdout


def valid(manifests: str, folder: Path) -> None:
    """Hold manifests to the schemas of the newest Kubernetes known here, strictly: no field that it does not know."""
    path = folder / "manifests.yaml"
    path.write_text(manifests, encoding="utf-8")
    checked = tool("kubernetes-validate", "--strict", path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
