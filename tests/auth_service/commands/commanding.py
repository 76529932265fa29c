"""The command, in a process of its own or in this one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from auth_service import cli

SECONDS = 60  # for a process to start on a machine under load


def run(cwd: Path, *arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `auth-service` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "auth_service", *arguments],
        cwd=cwd,
        input=stdin,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["auth-service", *arguments])
    before = os.umask(0o077)
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        os.umask(before)
    return 0
