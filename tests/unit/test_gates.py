from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent.parent


def script(name: str) -> ModuleType:
    """Load one of the scripts of `make lint`."""
    spec = importlib.util.spec_from_file_location(f"scripts_{name}", ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def package(root: Path, text: str) -> None:
    """Write a package of one file."""
    (root / "gateway").mkdir()
    (root / "gateway" / "some.py").write_text(text, encoding="utf-8")


def test_a_docstring_is_no_part_of_a_body() -> None:
    """Telling the contract at length costs nothing of the budget."""
    tree = ast.parse('def f():\n    """One.\n\n    Two.\n    """\n    a = 1\n\n    return a\n')
    assert [("f", 3)] == list(script("sizes").bodies(tree))


@pytest.mark.parametrize(("body", "over"), [(50, 0), (51, 1)])
def test_a_long_body_is_over(tmp_path: Path, body: int, over: int) -> None:
    """The bound itself is allowed."""
    small = "".join(f"def f{i}():\n    pass\n" for i in range(20))
    package(tmp_path, small + "def g():\n" + "    pass\n" * body)
    assert over == len(script("sizes").measure(tmp_path, "gateway").over)


@pytest.mark.parametrize(("lines", "over"), [(300, 0), (301, 1)])
def test_a_long_file_is_over(tmp_path: Path, lines: int, over: int) -> None:
    """The bound itself is allowed."""
    package(tmp_path, "pass\n" * lines)
    assert over == len(script("sizes").measure(tmp_path, "gateway").over)


def test_many_middling_bodies_are_over(tmp_path: Path) -> None:
    """Nine in ten must be short, though none is too long."""
    long = "".join(f"def g{i}():\n" + "    pass\n" * 21 for i in range(2))
    package(tmp_path, "".join(f"def f{i}():\n    pass\n" for i in range(8)) + long)
    (fault,) = script("sizes").measure(tmp_path, "gateway").over
    assert "nine in ten function bodies have up to 21 lines" in fault


@pytest.mark.parametrize(
    ("comment", "found"),
    [
        ("# noqa: BLE001 - the root of a task", [("noqa", True)]),
        ("# noqa: S603, S607 - tests start programs", [("noqa", True)]),
        ("# noqa: BLE001", [("noqa", False)]),
        ("# noqa", [("noqa", False)]),
        ("# noqa - because I say so", [("noqa", False)]),
        ("# type: ignore[misc]  # the stub is wrong", [("type: ignore", True)]),
        ("# type: ignore[misc]", [("type: ignore", False)]),
        ("# type: ignore  # the stub is wrong", [("type: ignore", False)]),
        ("# pragma: no cover - only on a Mac", [("pragma: no cover", True)]),
        ("# pragma: no branch", [("pragma: no cover", False)]),
        ("# an honest comment", []),
    ],
)
def test_an_exception_names_its_rule_and_reason(comment: str, found: list[tuple[str, bool]]) -> None:
    """Whoever looks away says from what and why."""
    assert found == list(script("exceptions").exceptions(comment))


def test_the_locks_belong_to_the_project() -> None:
    """What is installed is what pyproject.toml asks for, hashed, from no named host."""
    assert [] == list(script("locks").faults())


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("base", ("pydantic==", "pydantic-x=="), "pydantic>=2.10 is not pinned to a version it allows"),
        ("base", ("# for the dependencies with the digest ", "# "), "run `make lock`"),
        ("demo", ("uvicorn==0.54", "uvicorn==0.55"), "uvicorn differs from the smaller lock"),
        ("test", ("--hash=sha256:", "--hush=sha256:"), "no hash for"),
        ("sdk-0.5", ("centrifuge-python==0.5", "centrifuge-python==0.6"), "is not pinned to a version it allows"),
        ("compile", ("mypy-extensions==1", "mypy-extensions==0"), "mypy-extensions differs from the lock test"),
        ("load", ("uvloop==0.23.0", "uvloop==0.22.0"), "uvloop differs from the lock test"),
        ("demo", ("# made by", "--index-url https://host.example # made by"), "names a host"),
    ],
)
def test_a_lock_that_was_tampered_with_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, change: tuple[str, str], says: str
) -> None:
    """Each way in which a lock can be wrong is a line."""
    locks = script("locks")
    (tmp_path / "requirements").mkdir()
    for path in (ROOT / "requirements").glob("*.txt"):
        text = path.read_text(encoding="utf-8")
        assert change[0] in text or path.stem != name
        (tmp_path / "requirements" / path.name).write_text(text.replace(*change) if path.stem == name else text)
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    monkeypatch.setattr(locks, "ROOT", tmp_path)
    assert any(says in fault for fault in locks.faults())


def test_make_without_a_target_explains_itself() -> None:
    """The six targets that the README names are there, and each says what it does."""
    shown = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = dict(re.findall(r"^  make ([a-z]+) +(\S.+)$", shown, re.MULTILINE))
    assert {"help", "demo", "test", "lint", "bench", "soak"} <= set(lines)


def test_the_ci_script_is_valid_and_leaves_nothing_out() -> None:
    """It can be parsed, stops at the first failure, and turns what is left out into a failure."""
    text = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert 0 == subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode
    assert "set -euo pipefail" in text
    *_, checked, tested = text.splitlines()
    assert checked.startswith("make --jobs=2 --output-sync=target lint ready")
    assert tested == "make test REQUIRE_ALL=1"


def test_no_machine_or_host_is_named_in_the_repositorys_gates() -> None:
    """What is checked in works anywhere."""
    for path in (ROOT / "Makefile", ROOT / ".ci" / "run", *(ROOT / "requirements").glob("*.txt")):
        assert "://" not in path.read_text(encoding="utf-8"), path
