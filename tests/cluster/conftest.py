"""The scene of the fault tests: a fleet under load, small unless `--standard-load` is given."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.support import scene
from tests.support.crowd_life import SMALL, STANDARD, Load
from tests.support.scene import Scene

Standing = Callable[..., AbstractAsyncContextManager[Scene]]


@pytest.fixture(name="load", scope="session")
def _load(request: pytest.FixtureRequest) -> Load:
    """Return the load of this run; a test changes single figures with `dataclasses.replace`."""
    return STANDARD if request.config.getoption("--standard-load") else SMALL


@pytest.fixture(name="standing")
def _standing(tmp_path: Path, load: Load) -> Standing:
    """Give a function that sets a scene: `async with standing(retry=True, nodes=3) as scene`.

    It takes what `tests.support.scene.standing` takes, and the fields of `Load` that differ.
    """
    fields = {it.name for it in dataclasses.fields(Load)}

    def stand(**wanted: Any) -> AbstractAsyncContextManager[Scene]:
        chosen = dataclasses.replace(load, **{it: wanted.pop(it) for it in fields & wanted.keys()})
        return scene.standing(tmp_path, chosen, **wanted)

    return stand


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the processes of the scene logged when a test failed."""
    del call
    report = yield
    stood = item.funcargs.get("scene")
    folder = stood.fleet.folder if isinstance(stood, Scene) else item.funcargs.get("tmp_path")
    if report.failed and isinstance(folder, Path):
        report.sections.extend((f"log of {it.stem}", scene.tail(it)) for it in sorted(folder.glob("*.log")))
    return report
