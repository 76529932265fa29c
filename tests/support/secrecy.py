"""Looks through every log of a test run for what must never be in one: tokens, tickets, passwords."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

# By their looks: JWTs (which tickets are, too), refresh tokens, hashes of passwords, and what stands where one is due.
SHAPES: Final = {
    "a JWT": re.compile(rb"eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_.-]*"),
    "a refresh token": re.compile(rb"(?<![A-Za-z0-9_])rt_[A-Za-z0-9_-]{43}"),
    "a hash of a password": re.compile(rb"\$argon2id?\$v="),
    "a bearer": re.compile(rb"(?:[Bb]earer|BEARER)(?: |%20|\.)[A-Za-z0-9_.~+/-]{16,}"),
    "a parameter": re.compile(rb"(?:token|ticket|password)=(?!\[redacted|%5Bredacted|\*\*\*)[^\s&\"'<>=,;)]{4,}"),
}
PASSWORD: Final = re.compile(
    r"""(?i)(?<![a-z])\w*password["']?(?:\s*:\s*|(?<![=!])=\s*|\s=\s)["']([^"'\n{}\\]{8,64})["']"""
)
NO_PASSWORDS: Final = {"password", "[redacted]"}  # names of fields, and what stands in their place
SHOWN: Final = 6  # letters of a secret that a report gives
OVERLAP: Final = 256  # bytes in front of what is new are looked at again: a secret may have been half written
SUFFIXES: Final = frozenset({".log", ".out", ".err", ".jsonl"})
LOOK_SECONDS: Final = 1.0  # between two looks at the logs of what several tests share


@dataclass(frozen=True, slots=True)
class Leak:
    """A secret in a log."""

    what: str
    where: str
    shown: str

    def __str__(self) -> str:
        """Say it without telling the secret again."""
        return f"{self.what} in {self.where}: {self.shown}"


@dataclass(slots=True)
class Scanner:
    """Knows secrets by their looks, and those of this run by their value; reads of each file only what is new."""

    values: set[bytes] = field(default_factory=set)
    files: int = 0
    size: int = 0
    _read: dict[Path, int] = field(default_factory=dict)
    _kept: set[Path] = field(default_factory=set)
    _told: set[tuple[Path, int]] = field(default_factory=set)

    def leaks(self, data: bytes, where: str) -> Iterator[tuple[int, Leak]]:
        """Yield each secret, and where in the data it begins."""
        for what, shape in SHAPES.items():
            for match in shape.finditer(data):
                yield match.start(), Leak(what, where, _shown(data, match.start()))
        for value in self.values:
            at = data.find(value)
            if at >= 0:
                yield at, Leak("a password", where, _shown(data, at))

    def scan(self, folder: Path) -> Iterator[Leak]:
        """Look at all logs in a folder, and remember how far. What vanishes meanwhile is passed over."""
        for inside, _, names in os.walk(folder):
            for path in (Path(inside) / name for name in names):
                with suppress(FileNotFoundError):
                    if path.name == "secrets.json" and path not in self._kept:
                        self._keep(path)
                    elif path.suffix in SUFFIXES and not path.is_symlink():
                        yield from self._scan_file(path)

    def _scan_file(self, path: Path) -> Iterator[Leak]:
        seen = self._read.get(path, 0)
        size = path.stat().st_size
        if size == seen:
            return
        if size < seen:  # begun anew
            self._told = {it for it in self._told if it[0] != path}
            seen = 0
        begin = max(0, seen - OVERLAP)
        with path.open("rb") as log:
            log.seek(begin)
            data = log.read()
        self.files += path not in self._read
        self.size += size - seen
        self._read[path] = size
        for at, leak in self.leaks(data, str(path)):
            if (path, begin + at) not in self._told:
                self._told.add((path, begin + at))
                yield leak

    def _keep(self, path: Path) -> None:
        """Take the passwords and keys that a demo made for itself."""
        self._kept.add(path)
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            return  # a test broke it on purpose
        if isinstance(kept, dict):
            values = [*(kept.get("passwords") or {}).values(), kept.get("api_key")]
            self.values |= {value.encode() for value in values if isinstance(value, str) and len(value) >= 8}


def passwords(sources: Iterable[Path]) -> set[bytes]:
    """Return the passwords that stand in the source of tests."""
    found: set[str] = set()
    for path in sources:
        found.update(PASSWORD.findall(path.read_text(encoding="utf-8")))
    return {it.encode() for it in found - NO_PASSWORDS}


def _shown(data: bytes, at: int) -> str:
    """Return the line in front of a secret, and its first letters."""
    line = data.rfind(b"\n", 0, at) + 1
    return data[max(line, at - 60) : at + SHOWN].decode(errors="replace") + "..."


class Guard:
    """The plug-in: fails the test after which a log holds a secret, and the run if one turns up at its end.

    Logs are files below the folder for temporary ones, and what pytest captured of a test; not what commands print
    for people, which tests read themselves.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._scanner = Scanner()
        self._base: Path | None = None
        self._own: set[str] = set()  # folders of single tests
        self._shared: list[Path] = []
        self._seen: set[str] = set()
        self._looked_at = 0.0
        self._tests = 0
        self._late: list[str] = []
        self._counts = [0, 0, 0]

    def watch(self, base: Path) -> None:
        """Look below this folder."""
        self._base = base
        self._scanner.values |= passwords(Path(__file__).parent.parent.rglob("*.py"))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Look, once a test is over."""
        report = yield
        if call.when == "teardown":
            self._tests += 1
            found = [*self._captured(report), *self._of_test(item), *self._of_all()]
            if found and report.passed:
                report.outcome = "failed"
                report.longrepr = _told(found)
        return report

    def _captured(self, report: pytest.TestReport) -> Iterator[Leak]:
        for name, text in report.sections:
            data = text.encode(errors="replace")
            self._scanner.size += len(data)
            yield from (leak for _, leak in self._scanner.leaks(data, name))

    def _of_test(self, item: pytest.Item) -> Iterator[Leak]:
        folder = getattr(item, "funcargs", {}).get("tmp_path")
        if folder is not None:
            self._own.add(folder.name)
            yield from self._scanner.scan(folder)

    def _of_all(self, *, now: bool = False) -> Iterator[Leak]:
        """Look at what tests share, if it is time."""
        if self._base is None or (not now and time.monotonic() - self._looked_at < LOOK_SECONDS):
            return
        self._looked_at = time.monotonic()
        names = {it.name for it in self._base.iterdir() if not it.is_symlink()} - self._seen
        self._seen |= names
        self._shared += [self._base / it for it in sorted(names - self._own)]
        for folder in self._shared:
            yield from self._scanner.scan(folder)

    # --- the end of the run

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Look at everything once more, whatever test it belonged to; a worker tells its master."""
        if self._base is not None:
            self._late += [str(it) for it in self._scanner.scan(self._base)]
        mine = [self._scanner.files, self._scanner.size, self._tests]
        output: dict[str, Any] | None = getattr(self._config, "workeroutput", None)
        if output is not None:
            output["leaks"], output["looked_at"] = self._late, mine
            return
        self._counts = [sum(pair) for pair in zip(self._counts, mine, strict=True)]
        if self._late:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what a worker found."""
        output = getattr(node, "workeroutput", {})
        self._late += output.get("leaks", [])
        self._counts = [sum(pair) for pair in zip(self._counts, output.get("looked_at", [0, 0, 0]), strict=True)]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what was looked at, and what was found."""
        files, size, tests = self._counts
        if self._late:
            terminalreporter.section("secrets in logs", red=True, bold=True)
            for line in self._late:
                terminalreporter.line(line, red=True)
        elif tests:
            looked = f"{files} logs and the output of {tests} tests, {size / 1e6:.1f} MB"
            terminalreporter.line(f"no secret in {looked}")


def _told(found: Iterable[Leak]) -> str:
    return "\n".join(["a log holds what no log may hold:", *dict.fromkeys(f"  {it}" for it in found)])
