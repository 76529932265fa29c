"""The scenarios, one module each, found by its name (`one-to-one` is `one_to_one.py`); `_x.py` is none."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import cast

from loadtests.scenarios.contract import Scenario

_NO_SCENARIOS = frozenset({"contract", "moves"})


class UnknownScenarioError(LookupError):
    """There is no such scenario; the text lists those there are."""


def names() -> list[str]:
    """Return the names of all scenarios."""
    modules = (it.name for it in iter_modules(__path__))
    return sorted(it.replace("_", "-") for it in modules if it not in _NO_SCENARIOS and not it.startswith("_"))


def find(name: str) -> type[Scenario]:
    """Return the scenario of this name: the class of its module that bears it. Raises UnknownScenarioError."""
    if name not in names():
        raise UnknownScenarioError(f"there is no scenario {name!r}; there are: {', '.join(names())}")
    module = import_module(f"{__name__}.{name.replace('-', '_')}")
    for thing in vars(module).values():
        if isinstance(thing, type) and getattr(thing, "name", None) == name:
            return cast("type[Scenario]", thing)
    raise UnknownScenarioError(f"{module.__name__} has no class with the name {name!r}")
