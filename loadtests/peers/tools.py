"""Where peers find what they are made of: a Python environment, a folder of Node's, a C compiler."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Final

from loadtests.bench.building import compiled, compiler

HERE: Final = Path(__file__).parent
NODE: Final = HERE / "node"
APART: Final = Path(sys.prefix) / "peers"  # an environment of its own: peers disagree with us on what they need
INSTALL: Final = "`make compare` installs it"


def script(name: str, port: int, redis: str) -> list[str]:
    """Return the command for a peer in Python, by path: its environment does not know this package."""
    return [str(APART / "bin" / "python"), str(HERE / name), str(port), redis]


def missing_apart(package: str) -> str:
    """Return why a package of the peers' environment is not there; empty = it is."""
    return "" if any(APART.glob(f"lib/python3*/site-packages/{package}")) else f"no {package}: {INSTALL}"


def versions_apart(names: Sequence[str]) -> dict[str, str]:
    """Return the versions of packages of the peers' environment."""
    folders = [str(it) for it in APART.glob("lib/python3*/site-packages")]
    found = {it.metadata["Name"].lower().replace("_", "-"): it.version for it in distributions(path=folders)}
    return {it: found[it] for it in names}


def versions_here(names: Sequence[str]) -> dict[str, str]:
    """Return the versions of packages of this environment."""
    return {it: version(it) for it in names}


def missing_node(package: str) -> str:
    """Return why a package of Node's is not there; empty = it is."""
    if shutil.which("node") is None:
        return "no node on PATH"
    return "" if (NODE / "node_modules" / package).is_dir() else f"no {package}: {INSTALL}"


def versions_node(names: Sequence[str]) -> dict[str, str]:
    """Return the versions of Node and of packages in its folder."""
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, timeout=10, check=True)
    packages = {it: json.loads((NODE / "node_modules" / it / "package.json").read_text())["version"] for it in names}
    return {"node": node.stdout.strip().removeprefix("v"), **packages}


def missing_compiler() -> str:
    """Return why nothing can be compiled; empty = it can."""
    return "" if compiler() else "no C compiler on PATH"


def versions_compiler() -> dict[str, str]:
    """Return what the compiler calls itself."""
    said = subprocess.run(
        [compiler() or "cc", "-dumpfullversion"], capture_output=True, text=True, timeout=10, check=True
    )
    return {"cc": said.stdout.strip()}


def program(source: str) -> str:
    """Return the program that a C source beside this file is, compiled. Raises RuntimeError: nothing compiles here."""
    made = compiled(HERE / source)
    if made is None:
        raise RuntimeError(missing_compiler())
    return str(made)
