from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent.parent
REFERENCE = ROOT / "docs" / "reference"
LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error"}
EVENT = re.compile(r"[a-z_]+\.[a-z_]+")
ROW = re.compile(r"^\| `([a-z_]+\.[a-z_]+)` \| (\w+) \| (.*?) \|", re.MULTILINE)


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """The script that writes the pages."""
    spec = importlib.util.spec_from_file_location("scripts_reference", ROOT / "scripts" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def logged() -> dict[str, tuple[set[str], set[str]]]:
    """Levels and fields of every event that the source logs."""
    found: dict[str, tuple[set[str], set[str]]] = {}
    for package in ("gateway", "auth_service"):
        for path in (ROOT / package).rglob("*.py"):
            for event, level, fields in events(ast.parse(path.read_text(encoding="utf-8"))):
                levels, names = found.setdefault(event, (set(), set()))
                levels.add(level)
                names.update(fields)
    return found


def events(tree: ast.AST) -> Iterator[tuple[str, str, set[str]]]:
    """Yield event, level and fields of every call that logs."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
            continue
        first, method = node.args[0], node.func.attr
        if method in LEVELS and isinstance(first, ast.Constant) and EVENT.fullmatch(str(first.value)):
            fields = {str(keyword.arg) for keyword in node.keywords}
            if method == "exception" or "exc_info" in fields:
                fields = fields - {"exc_info"} | {"exception"}
            yield str(first.value), LEVELS[method], fields


def described() -> dict[str, tuple[set[str], set[str]]]:
    """Levels and fields of every event that the page of logs tells."""
    page = (REFERENCE / "logging.md").read_text(encoding="utf-8")
    return {event: ({level}, set(re.findall(r"`(\w+)`", fields))) for event, level, fields in ROW.findall(page)}


def test_the_written_pages_are_what_the_source_says(reference: ModuleType) -> None:
    """Codes, settings and metrics cannot be changed without their pages."""
    assert [] == reference.stale(), "run scripts/reference.py"


def test_a_stale_page_is_named(reference: ModuleType, tmp_path: Path) -> None:
    """A page that is missing, or differs in one letter, is found."""
    (tmp_path / "docs" / "reference").mkdir(parents=True)
    for name in reference.PAGES:
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    codes, metrics = tmp_path / "docs/reference/codes.md", tmp_path / "docs/reference/metrics.md"
    codes.write_text(codes.read_text(encoding="utf-8").replace("3008", "3009"), encoding="utf-8")
    metrics.unlink()
    assert ["docs/reference/codes.md", "docs/reference/metrics.md"] == reference.stale(tmp_path)


def test_every_explanation_belongs_to_a_code(reference: ModuleType) -> None:
    """A code that was dropped leaves no explanation behind."""
    known = {
        "closes": reference.named(reference.disconnects, reference.disconnects.Disconnect),
        "ends": reference.named(reference.disconnects, reference.disconnects.Unsubscribed),
        "errors": reference.named(reference.errors, reference.errors.ErrorReply),
    }
    for kind, constants in known.items():
        assert [name for name, _ in constants] == list(reference.TEXTS[kind])


def test_every_event_is_described_with_its_level_and_fields() -> None:
    """The page of logs lists what the source logs, nothing more and nothing less."""
    assert logged() == described()


def test_calls_that_log_are_recognised() -> None:
    """A traceback is a field, sentences and calls of other things are no events."""
    tree = ast.parse('log.error("a.b", n=1, exc_info=e)\nlog.exception("c.d")\nlog.info("a sentence")\nx.info(y)')
    assert [("a.b", "error", {"n", "exception"}), ("c.d", "error", {"exception"})] == list(events(tree))


def test_links_between_the_pages_lead_somewhere() -> None:
    """Every relative link of the documentation names a file that is there, and a heading in it if it names one."""
    broken = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            name, _, heading = link.partition("#")
            target = page.parent / name if name else page
            if "://" not in link and not (target.exists() and (not heading or heading in headings(target))):
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert [] == broken


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}
