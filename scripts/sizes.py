"""Size budget: files up to 300 lines, function bodies up to 50 and nine in ten up to 20; prints its table."""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PACKAGES = ("gateway", "auth_service", "loadtests", "scripts", "tests")
GENERATED = ("envelope_pb2.py",)
FILE_LINES = 300
MAY_BE_LONGER = {
    "gateway/protocol/session.py": 400,  # the dispatch of all commands is read in one piece
    "gateway/protocol/messages.py": 440,  # the vocabulary: classes without code
    "scripts/reference.py": 320,  # one function a page, and what they share
}
TEST_FILE_LINES = 600  # one subject, one file: a table of cases is no complexity
BODY_LINES = 50
NINE_IN_TEN = 20


@dataclass(slots=True)
class Count:
    """The sizes of one package; `over` names what breaks the budget."""

    files: list[int] = field(default_factory=list)
    bodies: list[int] = field(default_factory=list)
    over: list[str] = field(default_factory=list)


def measure(root: Path, package: str) -> Count:
    """Measure all files of a package."""
    count = Count()
    for path in sorted((root / package).rglob("*.py")):
        if path.name in GENERATED or "node_modules" in path.parts:
            continue
        name = path.relative_to(root).as_posix()
        text = path.read_text(encoding="utf-8")
        lines = text.count("\n")
        allowed = TEST_FILE_LINES if package == "tests" else MAY_BE_LONGER.get(name, FILE_LINES)
        count.files.append(lines)
        if lines > allowed:
            count.over.append(f"{name}: {lines} lines, allowed are {allowed}")
        for function, body in bodies(ast.parse(text)):
            count.bodies.append(body)
            if body > BODY_LINES:
                count.over.append(f"{name}: {function} has a body of {body} lines, allowed are {BODY_LINES}")
    if percentile(count.bodies) > NINE_IN_TEN:
        count.over.append(f"{package}: nine in ten function bodies have up to {percentile(count.bodies)} lines")
    return count


def bodies(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield every function and the lines of its body, docstring aside."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
            yield node.name, (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def percentile(values: Sequence[int]) -> int:
    """Return what nine in ten do not exceed."""
    return sorted(values)[(len(values) * 9 + 9) // 10 - 1] if values else 0


def main() -> int:
    """Print the table and what is over; 1 if anything is."""
    root = Path(__file__).parent.parent
    print(f"{'package':<14} files   lines  longest  functions  median  9 in 10  longest")
    over: list[str] = []
    for package in PACKAGES:
        it = measure(root, package)
        over += it.over
        middle = statistics.median(it.bodies or [0])
        row = (len(it.files), sum(it.files), max(it.files, default=0), len(it.bodies), middle, percentile(it.bodies))
        print(package.ljust(14) + "{:>6}{:>8}{:>9}{:>11}{:>8g}{:>9}{:>9}".format(*row, max(it.bodies, default=0)))
    print(*over, sep="\n", end="\n" if over else "")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
