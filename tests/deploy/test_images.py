"""What the Dockerfiles say: the linter's rules, and ours. `test_images_built.py` builds them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.tools import ROOT, ended, tool

DOCKERFILES: Final = sorted((ROOT / "deploy" / "docker").glob("*.Dockerfile"))
UID: Final = 10001
each = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)


def instructions(path: Path) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile, each with its arguments on one line."""
    text = "\n".join(it for it in path.read_text(encoding="utf-8").splitlines() if not it.lstrip().startswith("#"))
    lines = (it.strip() for it in re.sub(r"\s*\\\n\s*", " ", text).splitlines())
    return [(name, rest) for name, _, rest in (it.partition(" ") for it in lines if it)]


def final(path: Path) -> list[tuple[str, str]]:
    """Return the instructions of the last stage."""
    found = instructions(path)
    last = max(number for number, (name, _) in enumerate(found) if name == "FROM")
    return found[last:]


def only(path: Path, wanted: str) -> str:
    """Return the arguments of the one instruction of this name in the last stage."""
    (found,) = (rest for name, rest in final(path) if name == wanted)
    return found


def copied(path: Path) -> set[str]:
    """Return what a Dockerfile copies from the repository."""
    sources = (rest.split()[:-1] for name, rest in instructions(path) if name in {"COPY", "ADD"})
    return {it for words in sources if not any(word.startswith("--from") for word in words) for it in words}


def test_each_program_has_an_image() -> None:
    """The gateway, the auth service and the generator of load."""
    assert ["auth", "gateway", "load"] == [it.stem for it in DOCKERFILES]


@pytest.mark.needs("deploy tools")
@each
def test_the_linter_finds_nothing(path: Path) -> None:
    """No rule is broken and none is switched off."""
    checked = tool("hadolint", "--no-color", path)
    assert (0, "") == (checked.returncode, checked.stdout + checked.stderr)
    assert "hadolint ignore" not in path.read_text(encoding="utf-8")


@pytest.mark.needs("deploy tools")
def test_the_linter_looks(tmp_path: Path) -> None:
    """It finds what is wrong in a Dockerfile in which much is."""
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM debian\nRUN cd /tmp && sudo pip install flask\nENTRYPOINT flask\n")
    checked = tool("hadolint", bad)
    assert checked.returncode != 0
    assert {"DL3006", "DL3025"} <= set(re.findall(r"DL\d{4}", checked.stdout))


# --- what goes in


@each
def test_what_is_copied_is_there_and_checked_in(path: Path) -> None:
    """A clean checkout has all that a Dockerfile copies."""
    tracked = ended(["git", "ls-files", "--cached", "--others", "--exclude-standard"]).stdout.splitlines()
    sources = copied(path)
    assert sources
    missing = {it for it in sources if not any(each == it or each.startswith(f"{it}/") for each in tracked)}
    assert set() == missing


def test_a_builder_is_sent_what_is_copied_and_nothing_else() -> None:
    """No tests, no history, no keys of a demo: everything is left out, then what is copied is let in."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    everything, *rules = [it for it in lines if it and not it.startswith("#")]
    assert "*" == everything
    let_in = [it.removeprefix("!") for it in rules if it.startswith("!")]
    assert sorted({it.split("/")[0] for path in DOCKERFILES for it in copied(path)}) == sorted(let_in)
    assert not {"tests", ".git", ".venv", ".demo"} & set(let_in)
    kept_out = [it for it in rules if not it.startswith("!")]
    assert {"**/__pycache__", "**/node_modules"} == set(kept_out)
    assert rules == [*(it for it in rules if it.startswith("!")), *kept_out]  # the last rule that fits wins


@each
def test_every_package_is_one_that_we_locked(path: Path) -> None:
    """Installed by hash from a lock, or built here from what was copied."""
    installs = [
        it for name, rest in instructions(path) if name == "RUN" for it in rest.split("&&") if " install " in f"{it} "
    ]
    pips = [it for it in installs if "pip" in it]
    assert 3 == len(pips)
    assert all("--require-hashes -r requirements/" in it or "--no-deps --no-index /wheels/" in it for it in pips)
    locks = set(re.findall(r"requirements/[\w.-]+\.txt", " ".join(pips)))
    assert locks == {it for it in copied(path) if it.startswith("requirements/")}


@each
def test_both_stages_stand_on_what_the_builder_names(path: Path) -> None:
    """A tag unless told otherwise; a release gives the digest, a mirror the name."""
    found = instructions(path)
    assert ["${BUILD_BASE}${BUILD_BASE_DIGEST} AS build", "${BASE}${BASE_DIGEST}"] == [
        rest for name, rest in found if name == "FROM"
    ]
    given = [rest for name, rest in found[: found.index(("FROM", "${BUILD_BASE}${BUILD_BASE_DIGEST} AS build"))]]
    assert given == [
        "BUILD_BASE=python:3.11-bookworm",
        "BUILD_BASE_DIGEST=",
        "BASE=python:3.11-slim-bookworm",
        "BASE_DIGEST=",
    ]


# --- what comes out


@each
def test_nothing_runs_as_root_in_the_image(path: Path) -> None:
    """The last stage only takes over files, and its user has a number that no host's user has."""
    stage = final(path)
    assert "RUN" not in {name for name, _ in stage}
    assert f"{UID}:{UID}" == only(path, "USER")
    assert all("--from=build" in rest for name, rest in stage if name == "COPY")


@each
def test_programs_are_started_without_a_shell(path: Path) -> None:
    """A signal reaches the program itself, and no shell is needed to be well."""
    for wanted in ("ENTRYPOINT", "CMD"):
        assert all(isinstance(it, str) for it in json.loads(only(path, wanted)))
    health = only(path, "HEALTHCHECK")
    assert health == "NONE" or json.loads(health.partition(" CMD ")[2])
    assert ("SIGINT" if path.stem == "load" else "SIGTERM") == only(path, "STOPSIGNAL")


@each
def test_the_commands_of_the_image_are_there(path: Path) -> None:
    """What it starts, and what it asks for its health, are commands that the program has."""
    entry = json.loads(only(path, "ENTRYPOINT"))
    lines = [[*entry, *json.loads(only(path, "CMD"))]]
    if (health := only(path, "HEALTHCHECK")) != "NONE":
        lines.append(json.loads(health.partition(" CMD ")[2]))
    for program, *arguments in lines:
        command = [str(Path(sys.executable).parent / program), *arguments, "--help"]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
        assert 0 == shown.returncode, shown.stderr
        assert "Usage:" in shown.stdout
