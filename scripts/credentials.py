"""Looks for credentials in what is, or is about to be, checked in; those that are none stand in credentials.toml."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.filters import heuristic
from detect_secrets.plugins.base import BasePlugin, RegexBasedDetector
from detect_secrets.plugins.high_entropy_strings import HighEntropyStringsPlugin

ROOT: Final = Path(__file__).parent.parent
LIST: Final = Path(__file__).with_suffix(".toml")
HASHES: Final = ("requirements/*.txt", "*/package-lock.json", "scripts/credentials.toml")
# of addresses there are better checks, and ruff's S105 to S107 read Python with understanding
LEFT_OUT: Final = frozenset({"Public IP (ipv4)", "Secret Keyword"})
KEYWORDS: Final = "Secret Keyword"
SHORTEST_REASON: Final = 10


class OurTokens(RegexBasedDetector):
    """Refresh tokens of the auth service."""

    secret_type = "Refresh token"  # noqa: S105 - the name of a kind
    denylist = (re.compile(r"(?<![A-Za-z0-9_])rt_[A-Za-z0-9_-]{43}"),)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that looks like a credential; `mark` tells it apart and tells it to nobody."""

    path: str
    line: int
    kind: str
    mark: str

    def __str__(self) -> str:
        """Say what to do about it."""
        return f"{self.path}:{self.line}: {self.kind}; take it out and revoke it, or allow {self.mark} with a reason"


def plugins() -> dict[str, BasePlugin]:
    """Return what looks, by the kind of credential."""
    kinds: Mapping[str, Any] = get_mapping_from_secret_type_to_class()  # its annotation says less than it gives
    known: dict[str, BasePlugin] = {kind: plugin() for kind, plugin in kinds.items()}
    return {**known, OurTokens.secret_type: OurTokens()}


def findings(path: str, text: str, looking: Mapping[str, BasePlugin]) -> Iterator[Finding]:
    """Yield what looks like a credential in a file, each value once and by its closest kind."""
    told: set[str] = set()
    by_chance_last = sorted(looking.items(), key=lambda it: isinstance(it[1], HighEntropyStringsPlugin))
    for kind, plugin in by_chance_last:
        if kind not in LEFT_OUT:
            for value in sorted({it for it in plugin.analyze_string(text) if not _harmless(plugin, it)} - told):
                told.add(value)
                yield Finding(path, text.count("\n", 0, text.find(value)) + 1, kind, mark(value))
    if not path.endswith(".py"):
        yield from _keywords(path, text, looking[KEYWORDS])


def _keywords(path: str, text: str, plugin: BasePlugin) -> Iterator[Finding]:
    """Yield what is given to something that is called password or secret: this rule goes by lines."""
    for number, line in enumerate(text.splitlines(), 1):
        if "{" not in line and not heuristic.is_indirect_reference(line):
            for found in plugin.analyze_line(filename=path, line=line, line_number=number):
                value = found.secret_value or ""
                if value and heuristic.is_not_alphanumeric_string(value) is False and "<" not in value:
                    yield Finding(path, number, KEYWORDS, mark(value))


def _harmless(plugin: BasePlugin, value: str) -> bool:
    """Whether a string that stands out by its chance alone is none: too regular, a UUID, an alphabet, a path."""
    return isinstance(plugin, HighEntropyStringsPlugin) and (
        plugin.calculate_shannon_entropy(value) <= plugin.entropy_limit
        or heuristic.is_potential_uuid(value)
        or heuristic.is_sequential_string(value)
        or value.count("/") > 2
    )


def mark(value: str) -> str:
    """Return what a value is called in the list."""
    return hashlib.sha256(value.encode()).hexdigest()[:16]


def checked_in(root: Path) -> list[str]:
    """Return the files that git has, or would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    names = sorted(set(listed.split("\0")) - {""})
    return [name for name in names if not any(fnmatchcase(name, it) for it in HASHES)]


def search(root: Path, names: Iterable[str]) -> Iterator[Finding]:
    """Yield the findings of all files that are text."""
    looking = plugins()
    for name in names:
        path = root / name
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            if b"\0" not in data:
                yield from findings(name, data.decode(errors="replace"), looking)


def faults(found: Sequence[Finding], allowed: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield each finding that is not allowed, each permission that nothing needs, and each without a reason."""
    used: set[int] = set()
    for finding in found:
        by = [number for number, row in enumerate(allowed) if _allows(row, finding)]
        used.update(by)
        if not by:
            yield str(finding)
    for number, row in enumerate(allowed):
        if number not in used:
            yield f"{LIST.name}: nothing needs the permission for {row['kind']} in {row['path']}"
        if len(row.get("reason", "")) < SHORTEST_REASON:
            yield f"{LIST.name}: no reason for {row['kind']} in {row['path']}"


def _allows(row: Mapping[str, Any], finding: Finding) -> bool:
    marks = row.get("marks")
    return (
        fnmatchcase(finding.path, row["path"]) and row["kind"] == finding.kind and (not marks or finding.mark in marks)
    )


def main() -> int:
    """Print what is to be done; 1 if there is anything."""
    names = checked_in(ROOT)
    allowed = tomllib.loads(LIST.read_text(encoding="utf-8")).get("allowed", [])
    told = list(faults(list(search(ROOT, names)), allowed))
    print(*told, sep="\n") if told else print(f"credentials: none in {len(names)} files; {len(allowed)} exceptions")
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())
