"""Says what can be played."""

from __future__ import annotations

import inspect
import textwrap
from typing import Final

from loadtests.kit.profile import PROFILES, Profile, ProfileError, names, read
from loadtests.scenarios import find

SHOWN: Final = ("connections", "channels", "publishers", "rate", "churn", "cuts", "missed", "slow", "duration")
WIDTH: Final = 100


def scenarios() -> str:
    """Return each scenario with what it is, and the numbers of its profile."""
    return "\n".join(_scenario(read(it)) for it in names())


def profile(name: str) -> str:
    """Return the whole profile of a scenario, comments and all. Raises ProfileError: there is none."""
    if name not in names():
        raise ProfileError(f"there is no scenario {name!r}; there are: {', '.join(names())}")
    return (PROFILES / f"{name}.yaml").read_text(encoding="utf-8")


def _scenario(its: Profile) -> str:
    about = (inspect.getdoc(find(its.scenario)) or "").partition("\n\n")[0].replace("\n", " ")
    plain = Profile(scenario=its.scenario, connections=its.connections)
    always = {"connections", "duration"}
    fields = (it for it in SHOWN if it in always or getattr(its, it) != getattr(plain, it))
    numbers = "  ".join(f"{it}={getattr(its, it):,g}" for it in fields)
    return f"{its.scenario}\n{textwrap.fill(about, WIDTH, initial_indent='  ', subsequent_indent='  ')}\n  {numbers}\n"
