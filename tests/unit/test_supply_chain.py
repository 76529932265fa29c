"""What we install has no fault that we know of, what we check in opens nothing, and no gate is opened wide."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FLOORS: dict[str, dict[str, str]] = tomllib.loads((ROOT / "scripts" / "floors.toml").read_text(encoding="utf-8"))
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


def script(name: str) -> ModuleType:
    """Load one of the scripts."""
    spec = importlib.util.spec_from_file_location(f"scripts_{name}", ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


# --- versions


def pins(lock: Path) -> dict[str, list[str]]:
    """Return the versions of each package of a lock."""
    found: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([a-z0-9._-]+)==([^\s;\\]+)", lock.read_text(encoding="utf-8"), re.MULTILINE):
        found.setdefault(name, []).append(version)
    return found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_no_lock_holds_a_version_with_a_known_fault(lock: Path) -> None:
    """Every pin is at the floor or above it."""
    below = [
        f"{name} {version} < {FLOORS[name]['least']}: {FLOORS[name]['because']}"
        for name, versions in pins(lock).items()
        for version in versions
        if name in FLOORS and Version(version) < Version(FLOORS[name]["least"])
    ]
    assert [] == below


def test_nobody_may_install_us_with_a_known_fault() -> None:
    """Without the locks, too: the lowest version that pyproject.toml lets in is not below the floor."""
    asked = {it.name: it for it in map(Requirement, PROJECT["project"]["dependencies"])}
    for name in asked.keys() & FLOORS.keys():
        lowest = min(Version(it.version) for it in asked[name].specifier if it.operator in {">=", "=="})
        assert lowest >= Version(FLOORS[name]["least"]), name


def test_every_floor_belongs_to_something_that_we_install() -> None:
    """A floor for what is gone says nothing, and each names the fault."""
    installed = {name for lock in LOCKS for name in pins(lock)}
    assert set() == FLOORS.keys() - installed
    assert [] == [name for name, floor in FLOORS.items() if not re.match(r"CVE-\d{4}-\d+.*: \w", floor["because"])]


# --- the rules


def test_the_security_rules_hold_for_all_that_is_deployed() -> None:
    """Ruff's S rules are on; no file or folder of the gateway or the auth service is left out of one."""
    lint = PROJECT["tool"]["ruff"]["lint"]
    assert "ALL" in lint["select"]
    assert [] == [rule for rule in lint["ignore"] if re.match(r"S\d|S$", rule)]
    wide = {
        pattern: rules
        for pattern, rules in lint["per-file-ignores"].items()
        if not pattern.startswith(("tests/", "loadtests/", "scripts/")) and any(re.match(r"S\d", it) for it in rules)
    }
    assert {} == wide
    assert "exclude" not in PROJECT["tool"]["ruff"]


# --- credentials

PARTS = {  # put together here, so that this file holds none
    "AWS Access Key": ["AKIA", "ZQ3DRSTUVWXYZ2AB"],
    "GitHub Token": ["ghp", "_", "aB3dE5fG7hI9jK1lM3", "nO5pQ7rS9tU1vW3xY5"],
    "JSON Web Token": ["eyJhbGciOiJFZERTQSJ9", ".eyJzdWIiOiJhbGljZSJ9", ".c2lnbmF0dXJlIG9mIG5vYm9keQ"],
    "Private Key": ["-----BEGIN ", "PRIVATE KEY-----"],
    "Refresh token": ["rt", "_", "aB3dE5fG7hI9jK1lM3", "nO5pQ7rS9tU1vW3xY5zA7-_9z"],
    "Basic Auth Credentials": ["redis://user:", "Zx81kP0q", "@db.example/0"],
    "Hex High Entropy String": ["'f4e1d2c3b5a69788", "0912ab34cd56ef7f8e9d'"],
}


@pytest.mark.parametrize("kind", PARTS)
def test_a_credential_is_found_and_not_told(kind: str) -> None:
    """Each kind, on its line, by a mark in place of the value."""
    credentials = script("credentials")
    (found,) = credentials.findings("gateway/some.py", f"\n\nx = {''.join(PARTS[kind])}\n", credentials.plugins())
    assert (kind, 3) == (found.kind, found.line)
    assert PARTS[kind][-1] not in str(found)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("password: Zx81kP0qLm", ["Secret Keyword"]),
        ('api_key = "Zx81kP0qLm"', ["Secret Keyword"]),
        ("password: ${PASSWORD}", []),
        ("password: <yours>", []),
        ("id: 8a5a4d3e-0000-4000-8000-000000000000", []),
    ],
)
def test_settings_and_pages_are_read_too(line: str, found: list[str]) -> None:
    """What is given to a password there is one, unless it only says where one belongs."""
    credentials = script("credentials")
    assert found == [it.kind for it in credentials.findings("deploy/some.yaml", line, credentials.plugins())]


def test_what_is_allowed_is_needed_and_has_a_reason() -> None:
    """A permission covers its file, kind and values; one that nothing needs, or that does not say why, is a fault."""
    credentials = script("credentials")
    one, other = (credentials.Finding("a/b.py", 1, "JSON Web Token", it) for it in ("m1", "m2"))
    row = {"path": "a/*", "kind": "JSON Web Token", "marks": ["m1"], "reason": "signed by nobody"}
    assert [] == list(credentials.faults([one], [row]))
    assert [str(other)] == list(credentials.faults([one, other], [row]))
    assert [] == list(credentials.faults([one, other], [{**row, "marks": []}]))
    for change in ({"path": "c/*"}, {"kind": "Private Key"}, {"marks": ["m3"]}):
        first, second = credentials.faults([one], [{**row, **change}])
        assert str(one) == first
        assert "nothing needs the permission" in second
    (fault,) = credentials.faults([one], [{**row, "reason": "because"}])
    assert "no reason for" in fault


def test_only_what_git_would_take_is_read(tmp_path: Path) -> None:
    """New files are, before they are added; what is ignored, binary, or made of hashes is not."""
    credentials = script("credentials")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "requirements").mkdir()
    (tmp_path / ".gitignore").write_text("ignored.py\n")
    secret = "".join(PARTS["GitHub Token"])
    for name in ("new.py", "ignored.py", "requirements/base.txt"):
        (tmp_path / name).write_text(secret)
    (tmp_path / "image.png").write_bytes(b"\0" + secret.encode())
    names = credentials.checked_in(tmp_path)
    assert [".gitignore", "image.png", "new.py"] == names
    assert ["new.py"] == [it.path for it in credentials.search(tmp_path, names)]


# --- advisories

Answer = dict[str, Any]


def answering(answers: dict[str, Answer | str]) -> Callable[[Sequence[str], Path], subprocess.CompletedProcess[str]]:
    """Return what runs no program, and answers by the service that is asked."""

    def run(command: Sequence[str], _: Path) -> subprocess.CompletedProcess[str]:
        answer = answers["npm" if command[0] == "npm" else command[command.index("-s") + 1]]
        text = answer if isinstance(answer, str) else json.dumps(answer)
        return subprocess.CompletedProcess(command, 1, "" if isinstance(answer, str) else text, text)

    return run


def package(name: str, **more: Any) -> Answer:
    """Return what pip-audit says of a package."""
    return {"name": name, "version": "1.0", "vulns": [], **more}


CLEAN: Answer = {"dependencies": [package("a"), package("b")]}
SKIPPED: Answer = {"dependencies": [package("a"), {"name": "b", "skip_reason": "not found on PyPI"}]}
FAULTY: Answer = {"dependencies": [package("a", vulns=[{"id": "CVE-1", "fix_versions": ["1.1"]}]), package("b")]}
BOTH: Answer = {"dependencies": [*FAULTY["dependencies"][:1], *SKIPPED["dependencies"][1:]]}
FAULT = "base.txt: a 1.0: CVE-1, mended in: 1.1"


@pytest.mark.parametrize(
    ("pypi", "osv", "asked", "known", "unasked"),
    [
        (CLEAN, "down", 2, [], []),
        (FAULTY, "down", 2, [FAULT], []),
        (SKIPPED, CLEAN, 2, [], []),
        ("down", FAULTY, 2, [FAULT], []),
        (BOTH, CLEAN, 2, [FAULT], []),
        (SKIPPED, "Traceback\nConnectionError: no", 2, [], ["base.txt: b: pypi does not know it"]),
        (BOTH, "down", 2, [FAULT], ["base.txt: b: pypi does not know it"]),
        ("down", "down", 0, [], ["base.txt: pypi gave no answer (exit code 1: down)"]),
        ({"dependencies": []}, "down", 0, [], ["base.txt: pypi gave no answer ({'dependencies': []})"]),
    ],
)
def test_what_was_not_asked_about_is_not_clean(
    pypi: Answer | str, osv: Answer | str, asked: int, known: list[str], unasked: list[str]
) -> None:
    """Packages that a service passes over count as such, though it calls that a success; another one is asked."""
    advisories = script("advisories")
    found = advisories.of_lock(Path("requirements/base.txt"), answering({"pypi": pypi, "osv": osv}))
    assert (asked, known, unasked) == (found.asked, found.known, found.unasked)


@pytest.mark.parametrize(
    ("answer", "asked", "known", "unasked"),
    [
        ({"metadata": {"vulnerabilities": {}, "dependencies": {"total": 9}}, "vulnerabilities": {}}, 9, 0, 0),
        ({"metadata": {"vulnerabilities": {}}, "vulnerabilities": {"ws": {"severity": "high"}}}, 0, 1, 0),
        ({"error": {"summary": "405"}}, 0, 0, 1),
        ("down", 0, 0, 1),
    ],
)
def test_node_s_packages_are_asked_about(
    answer: Answer | str, asked: int, known: int, unasked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the registry is no answer."""
    advisories = script("advisories")
    monkeypatch.setattr(advisories.shutil, "which", lambda _: "/usr/bin/npm")
    found = advisories.of_node(Path(), answering({"npm": answer}))
    assert (asked, known, unasked) == (found.asked, len(found.known), len(found.unasked))


@pytest.mark.parametrize(
    ("answers", "code", "says"),
    [
        ((CLEAN, {"metadata": {"vulnerabilities": {}}}), 0, "no fault is known"),
        ((FAULTY, "down"), 1, FAULT.partition(": ")[2]),
        ((CLEAN, "down"), 2, "NOT AUDITED: 1 could not be asked about"),
    ],
)
def test_the_exit_code_never_calls_silence_clean(
    answers: tuple[Answer, Answer | str],
    code: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """0 for asked and clean, 1 for a known fault, 2 if anything was not asked about."""
    advisories = script("advisories")
    monkeypatch.setattr(advisories, "run", answering(dict(zip(("pypi", "npm"), answers, strict=True))))
    monkeypatch.setattr(advisories, "bill", lambda *_: None)
    monkeypatch.setattr(advisories.shutil, "which", lambda _: "/usr/bin/npm")
    assert code == advisories.main()
    said = capsys.readouterr().out
    assert says in said
    assert code == 0 or "no fault is known" not in said


def test_the_gates_are_verbs() -> None:
    """`make lint` looks for credentials; `make audit` asks for advisories."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipes = dict(re.findall(r"^(lint|audit):.*\n((?:\t.*\n)+)", text, re.MULTILINE))
    assert "scripts/credentials.py" in recipes["lint"]
    assert "scripts/advisories.py" in recipes["audit"]
