"""Counts the lines that ask a gate to look away, and refuses those that do not say why."""

from __future__ import annotations

import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("gateway", "auth_service", "loadtests", "scripts", "tests")
KINDS = {
    "noqa": re.compile(r"#\s*noqa(?P<codes>:\s*[A-Z]+[0-9]+(?:,\s*[A-Z]+[0-9]+)*)?(?P<reason>.*)"),
    "type: ignore": re.compile(r"#\s*type:\s*ignore(?P<codes>\[[a-z-]+(?:,\s*[a-z-]+)*\])?(?P<reason>.*)"),
    "pragma: no cover": re.compile(r"#\s*pragma:\s*no (?:cover|branch)(?P<codes>)(?P<reason>.*)"),
}
SHORTEST_REASON = 5


def found(root: Path) -> Iterator[tuple[str, str, bool]]:
    """Yield kind, place, and whether it says which rule and why."""
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            if path.name.endswith("_pb2.py") or "node_modules" in path.parts:
                continue
            text = path.read_text(encoding="utf-8")
            for token in tokenize.generate_tokens(io.StringIO(text).readline):
                if token.type == tokenize.COMMENT:
                    yield from (
                        (kind, f"{path.relative_to(root)}:{token.start[0]}", said)
                        for kind, said in exceptions(token.string)
                    )


def exceptions(comment: str) -> Iterator[tuple[str, bool]]:
    """Yield the kinds of exception in a comment, and whether each says which rule and why."""
    for kind, pattern in KINDS.items():
        if match := pattern.search(comment):
            reason = match["reason"].strip(" -#:")
            yield kind, match["codes"] is not None and len(reason) >= SHORTEST_REASON


def main() -> int:
    """Print how many there are; 1 if one has no reason."""
    everything = list(found(Path(__file__).parent.parent))
    counts = Counter(kind for kind, _, _ in everything)
    print("exceptions, each with a reason: " + ", ".join(f"{counts[kind]} {kind}" for kind in KINDS))
    silent = [f"{place}: {kind} without a rule or a reason" for kind, place, said in everything if not said]
    print(*silent, sep="\n", end="\n" if silent else "")
    return 1 if silent else 0


if __name__ == "__main__":
    sys.exit(main())
