"""`make`: write the locks from pyproject.toml; `check`: see that they belong to it, without asking an index."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
LOCKS: Mapping[str, tuple[str, ...]] = {"base": (), "demo": ("demo",), "test": ("demo", "load", "dev")}
# Groups, or one extra alone, that are installed each into a folder of its own; these keep the versions of a lock.
APART = ("sdk-0.5", "sdk-0.7", "peers", "audit", "compile", "deploy", "load")
AS_IN: Mapping[str, str] = {"compile": "test", "load": "test"}
STAMP = "# for the dependencies with the digest "
PIN = re.compile(r"^(?P<name>[a-z0-9][a-z0-9._-]*)==(?P<version>[^\s;\\]+)", re.MULTILINE)


def wanted(extras: tuple[str, ...]) -> list[str]:
    """Return the requirements of a lock: the project's, its extras', and what builds it."""
    tree = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    optional = tree["project"]["optional-dependencies"]
    return [
        *tree["build-system"]["requires"],
        *tree["project"]["dependencies"],
        *(it for extra in extras for it in optional[extra]),
    ]


def wanted_apart(group: str) -> list[str]:
    """Return the requirements of a lock that has nothing to do with the others."""
    tree = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return list({**tree["project"]["optional-dependencies"], **tree["dependency-groups"]}[group])


def digest(requirements: list[str]) -> str:
    """Return what changes when a requirement does."""
    return hashlib.sha256(json.dumps(requirements).encode()).hexdigest()[:16]


def make() -> None:
    """Resolve every lock; the larger ones keep the versions of the smaller."""
    folder = ROOT / "requirements"
    folder.mkdir(exist_ok=True)
    constraints: list[str] = []
    for name, extras in LOCKS.items():
        path = folder / f"{name}.txt"
        _resolve(path, wanted(extras), constraints)
        constraints = ["--constraints", str(path)]
    for name in APART:
        kept = ["--constraints", str(folder / f"{AS_IN[name]}.txt")] if name in AS_IN else []
        _resolve(folder / f"{name}.txt", wanted_apart(name), kept)


def _resolve(path: Path, requirements: list[str], constraints: list[str]) -> None:
    command = [sys.executable, "-m", "uv", "pip", "compile", "-", "--quiet", "--universal", "--python-version=3.11"]
    command += ["--generate-hashes", "--no-emit-index-url", "--no-annotate", "--no-header", "--output-file", str(path)]
    command += constraints
    subprocess.run(command, input="\n".join(requirements), text=True, check=True, cwd=ROOT)
    stamp = f"# made by `make lock`\n{STAMP}{digest(requirements)}\n"
    path.write_text(stamp + path.read_text(encoding="utf-8"), encoding="utf-8")


def faults() -> Iterator[str]:
    """Yield what is wrong with the locks, a line each."""
    smaller: dict[str, set[str]] = {}
    found: dict[str, dict[str, set[str]]] = {}
    for name, extras in LOCKS.items():
        pins = found[name] = yield from _faults_of(name, wanted(extras))
        yield from (
            f"requirements/{name}.txt: {it} differs from the smaller lock"
            for it, versions in smaller.items()
            if pins.get(it) != versions
        )
        smaller = pins
    for name in APART:
        pins = yield from _faults_of(name, wanted_apart(name))
        kept = found[AS_IN[name]] if name in AS_IN else pins
        yield from (
            f"requirements/{name}.txt: {it} differs from the lock {AS_IN[name]}"
            for it, versions in pins.items()
            if kept.get(it) != versions
        )


def _faults_of(name: str, requirements: list[str]) -> Generator[str, None, dict[str, set[str]]]:
    """Yield what is wrong with one lock by itself; return its pins."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    if f"{STAMP}{digest(requirements)}\n" not in text:
        yield f"requirements/{name}.txt: made for other dependencies than those in pyproject.toml: run `make lock`"
    if "://" in text:
        yield f"requirements/{name}.txt: names a host"
    pins = _pins(text)
    yield from (
        f"requirements/{name}.txt: {it} is not pinned to a version it allows" for it in _missing(requirements, pins)
    )
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    yield from (f"requirements/{name}.txt: no hash for {it.split()[0]}" for it in blocks if "--hash=sha256:" not in it)
    return pins


def _pins(text: str) -> dict[str, set[str]]:
    pins: dict[str, set[str]] = {}
    for match in PIN.finditer(text):
        pins.setdefault(match["name"], set()).add(match["version"])
    return pins


def _missing(requirements: list[str], pins: Mapping[str, set[str]]) -> Iterator[str]:
    for requirement in map(Requirement, requirements):
        versions = pins.get(re.sub(r"[-_.]+", "-", requirement.name).lower(), set())
        if not any(requirement.specifier.contains(it, prereleases=True) for it in versions):
            yield str(requirement)


def main() -> int:
    """Do what the first argument says."""
    if sys.argv[1:] == ["make"]:
        make()
        return 0
    found = list(faults())
    print(*found, sep="\n") if found else print(f"locks: {', '.join((*LOCKS, *APART))} belong to pyproject.toml")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
