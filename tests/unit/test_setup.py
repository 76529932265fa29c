from __future__ import annotations

import ast
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def hot(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the modules that are compiled, as `setup.py` names them."""
    monkeypatch.delenv("GATEWAY_COMPILE", raising=False)
    monkeypatch.setattr("setuptools.setup", lambda **_: None)
    lines = runpy.run_path(str(ROOT / "setup.py"))["HOT"]
    return [ROOT / "gateway" / f"{name}.py" for line in lines for name in line.split()]


def names(nodes: list[ast.expr]) -> set[str]:
    """Return what is named in bases or decorators, without brackets."""
    return {it.id for node in nodes for it in ast.walk(node) if isinstance(it, ast.Name)}


def refused(path: Path) -> Iterator[str]:
    """Yield the classes of a module that the interpreter would not load once they are compiled."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef) and "Generic" in names(node.bases):
            slots = any("slots" in ast.unparse(it) for it in node.decorator_list)
            if slots and "dataclass" in names(node.decorator_list):
                yield f"{path.relative_to(ROOT)}: {node.name}"


def test_what_is_compiled_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that moved would not be compiled, and nobody would notice before a build."""
    modules = hot(monkeypatch)
    assert len(modules) > 30
    assert [] == [it for it in modules if not it.is_file()]


def test_nothing_is_compiled_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A generic dataclass with slots compiles, and then fails when its module is loaded."""
    assert [] == [it for path in hot(monkeypatch) for it in refused(path)]


def test_such_a_class_would_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search sees what it is for, and nothing else."""
    monkeypatch.setattr("tests.unit.test_setup.ROOT", tmp_path)
    path = tmp_path / "some.py"
    path.write_text(
        "@dataclass(frozen=True, slots=True)\nclass A(Generic[T]): ...\n"
        "@dataclass(slots=True)\nclass B: ...\n@dataclass\nclass C(Generic[T]): ...\nclass D(Generic[T]): ...\n"
    )
    assert ["some.py: A"] == list(refused(path))
