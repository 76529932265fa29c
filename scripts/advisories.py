"""`make audit`: asks who keeps lists of known faults about all that is installed, and writes the bill of materials.

Exit code 0: asked about everything, nothing known. 1: something is known. 2: not everything could be asked about, which
says nothing about the rest.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

ROOT: Final = Path(__file__).parent.parent
TOOLS: Final = ROOT / ".venv" / "audit"
BILL: Final = ROOT / "build" / "sbom.cdx.json"
SERVICES: Final = ("pypi", "osv")  # the second is asked if the first does not know it all
SECONDS: Final = 300

Run: TypeAlias = Callable[[Sequence[str], Path], subprocess.CompletedProcess[str]]


@dataclass(slots=True)
class Findings:
    """What came out: faults that are known, and what nobody could be asked about."""

    asked: int = 0
    known: list[str] = field(default_factory=list)
    unasked: list[str] = field(default_factory=list)


def run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; what it does is in the result. Raises OSError, TimeoutExpired."""
    env = {**os.environ, "PYTHONPATH": str(TOOLS)}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=SECONDS, check=False)


def of_lock(lock: Path, run: Run) -> Findings:
    """Ask about all packages of a lock; a second service answers for what the first does not know."""
    first, *others = SERVICES
    found = _of_answer(lock.name, first, _json(_audit(lock, first), lock.parent, run))
    for service in others:
        if found.unasked:
            more = _of_answer(lock.name, service, _json(_audit(lock, service), lock.parent, run))
            found.known += more.known
            if more.asked:
                found.asked, found.unasked = more.asked, more.unasked
    return found


def _audit(lock: Path, service: str) -> list[str]:
    flags = ["--require-hashes", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    return [sys.executable, "-m", "pip_audit", "-r", str(lock), "-s", service, *flags]


def _of_answer(name: str, service: str, answer: Any) -> Findings:
    if not isinstance(answer, Mapping) or not answer.get("dependencies"):
        return Findings(unasked=[f"{name}: {service} gave no answer ({answer})"])
    found = Findings(asked=len(answer["dependencies"]))
    for it in answer["dependencies"]:
        package = f"{it['name']} {it.get('version', '')}".strip()
        if "skip_reason" in it:  # pip-audit goes on, and calls that a success
            found.unasked.append(f"{name}: {package}: {service} does not know it")
        for fault in it.get("vulns", ()):
            mended = ", ".join(fault.get("fix_versions", ())) or "not mended yet"
            found.known.append(f"{name}: {package}: {fault['id']}, mended in: {mended}")
    return found


def of_node(folder: Path, run: Run) -> Findings:
    """Ask about the packages of a folder for Node."""
    if shutil.which("npm") is None:
        return Findings(unasked=["package-lock.json: npm is not installed"])
    answer = _json(["npm", "audit", "--json"], folder, run)
    counts = answer.get("metadata", {}).get("vulnerabilities") if isinstance(answer, Mapping) else None
    if not isinstance(counts, Mapping):
        return Findings(unasked=["package-lock.json: npm's registry gave no answer"])
    found = Findings(asked=int(answer["metadata"].get("dependencies", {}).get("total", 0)))
    for name, it in answer.get("vulnerabilities", {}).items():
        found.known.append(f"package-lock.json: {name} {it.get('range', '')}: {it.get('severity', 'unknown')}")
    return found


def _json(command: Sequence[str], folder: Path, run: Run) -> Any:
    """Return what a program prints, or why that is no JSON."""
    try:
        done = run(command, folder)
    except (OSError, subprocess.TimeoutExpired) as error:
        return type(error).__name__
    try:
        return json.loads(done.stdout)
    except ValueError:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        return f"exit code {done.returncode}: {lines[-1][:200] if lines else 'no word'}"


def bill(lock: Path, run: Run) -> str | None:
    """Write the bill of materials of what is deployed; return why not, or None."""
    BILL.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", str(lock)]
    command += ["--pyproject", str(ROOT / "pyproject.toml"), "--output-reproducible", "--of", "JSON", "-o", str(BILL)]
    done = run(command, ROOT)
    return None if done.returncode == 0 else f"the bill of materials could not be written:\n{done.stderr}"


def told(parts: Sequence[Findings]) -> Iterator[str]:
    """Yield the report."""
    known, unasked = (list(dict.fromkeys(it for part in parts for it in getattr(part, kind))) for kind in _KINDS)
    if known:
        yield from ("Faults are known:", *(f"  {it}" for it in known))
    if unasked:
        yield f"NOT AUDITED: {len(unasked)} could not be asked about, which says nothing about them:"
        yield from (f"  {it}" for it in unasked[:10])
        yield from [f"  and {len(unasked) - 10} more"] * (len(unasked) > 10)
    if not known and not unasked:
        yield f"asked about {sum(part.asked for part in parts)} packages: no fault is known"


_KINDS: Final = ("known", "unasked")


def main() -> int:
    """Write the bill, ask, and say what came out."""
    fault = bill(ROOT / "requirements" / "base.txt", run)
    print(fault or f"bill of materials: {BILL.relative_to(ROOT)}")
    parts = [of_lock(lock, run) for lock in sorted((ROOT / "requirements").glob("*.txt"))]
    parts += [of_node(ROOT / folder, run) for folder in ("tests/e2e", "loadtests/peers/node")]
    print(*told(parts), sep="\n")
    if any(part.known for part in parts):
        return 1
    return 2 if fault or any(part.unasked for part in parts) else 0


if __name__ == "__main__":
    sys.exit(main())
