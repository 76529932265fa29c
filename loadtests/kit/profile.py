"""A profile: how many do what how often and for how long; YAML, strict, each scenario has one to begin with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

PROFILES: Final = files("loadtests") / "profiles"
FIELD: Final = re.compile(r"\{(\w+)\}")


class ProfileError(ValueError):
    """A profile that cannot be played; the text says which line of it and why."""


class Expectations(BaseModel):
    """What must hold for the run to pass; None: is only reported. Latencies in milliseconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    p50: PositiveFloat | None = None  # of delivery
    p99: PositiveFloat | None = None
    connect_p99: PositiveFloat | None = None
    recover_p99: PositiveFloat | None = None  # from when a client begins to come back until it has what it missed
    lost: int | None = Field(default=0, ge=0)
    repeats: int | None = Field(default=0, ge=0)  # publications that one subscription got twice, no return between
    refused: int | None = Field(default=None, ge=0)
    # Connections that the server ended without being part of the plan; None: nobody may be told not to come back.
    closed: int | None = Field(default=None, ge=0)
    lag_p99: PositiveFloat | None = None  # of any node's loop
    resident_growth: PositiveFloat | None = None  # of any node, from warm-up to the end, MiB


class Profile(BaseModel):
    """One load. Rates are of the whole run, not of a process; seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scenario: str
    about: str = ""  # `{rate}` stands for the number that is played
    connections: PositiveInt
    channels: PositiveInt = 1
    publishers: PositiveInt = 1  # how many connections speak
    rate: float = Field(default=0.0, ge=0)  # publications a second, on a schedule that waits for nobody
    size: int = Field(default=100, ge=40, le=65_000)  # bytes of a publication's data
    members: PositiveInt = 10  # of a room
    churn: float = Field(default=0.0, ge=0)  # connections a second that leave and are replaced
    slow: float = Field(default=0.0, ge=0, le=1)  # share of subscribers who read next to nothing
    cuts: int = Field(default=0, ge=0)  # how often everybody is cut off at once while measuring
    jitter: float = Field(default=1.0, ge=0)  # within which those who were cut off come back, each at random
    missed: int = Field(default=0, ge=0)  # publications that each returning client has to catch up with
    namespace: str = ""  # of the channels, with the rights and options that the scenario needs
    recovery: bool = False  # subscribe with recovery
    ramp: PositiveFloat = 5.0
    warm_up: float = Field(default=2.0, ge=0)
    duration: PositiveFloat = 30.0
    settle: PositiveFloat = 10.0  # at most; ends as soon as nothing is on its way
    processes: int = Field(default=0, ge=0)  # 0: as many as cores, less one for the server
    seed: int = 1
    expect: Expectations = Expectations()


def read(name: str, changes: Mapping[str, str] | None = None) -> Profile:
    """Return the profile of this name, or of this YAML file, with changes (`rate`: `500`, `expect.p99`: `20`).

    Raises ProfileError: there is none, it is no YAML, a field is unknown or out of range.
    """
    path = Path(name)
    source = path if path.suffix in {".yaml", ".yml"} else PROFILES / f"{name}.yaml"
    if not source.is_file():
        raise ProfileError(f"there is no profile {name!r}; these come with the kit: {', '.join(names())}")
    try:
        told: Any = yaml.safe_load(source.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"{source.name} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise ProfileError(f"{source.name} is no YAML: {error}") from None
    if not isinstance(told, dict):
        raise ProfileError(f"{source.name} must hold fields and their values")
    for field, value in (changes or {}).items():
        _change(told, field, value)
    try:
        found = Profile.model_validate(told)
        return found.model_copy(update={"about": _filled(found)})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, it['loc']))}: {_fault(it['type'], it['msg'])}" for it in error.errors())
        raise ProfileError(f"{source.name}: {faults}") from None


def names() -> list[str]:
    """Return the names of the profiles that come with the kit."""
    return sorted(it.name.removesuffix(".yaml") for it in PROFILES.iterdir() if it.name.endswith(".yaml"))


def _change(told: dict[str, Any], field: str, value: str) -> None:
    *folders, last = field.split(".")
    for folder in folders:
        told = told.setdefault(folder, {})
        if not isinstance(told, dict):
            raise ProfileError(f"{field}: {folder} is a value and has no fields")
    try:
        told[last] = yaml.safe_load(value) if value else ""
    except yaml.YAMLError as error:
        raise ProfileError(f"{field}: {value!r} is no YAML: {error}") from None


def _filled(its: Profile) -> str:
    """Return what it is about with the numbers that are played: `{rate}` in it is the field of this name."""
    fields = its.model_dump(exclude={"about", "expect"})

    def value(found: re.Match[str]) -> str:
        if (name := found[1]) not in fields:
            raise ProfileError(f"about: there is no field {{{name}}}; there are: {', '.join(fields)}")
        told = fields[name]
        return f"{told:,.10g}" if isinstance(told, float) else f"{told:,}" if isinstance(told, int) else str(told)

    return FIELD.sub(value, its.about)


def _fault(kind: str, message: str) -> str:
    if kind != "extra_forbidden":
        return message
    fields = [*Profile.model_fields, *(f"expect.{it}" for it in Expectations.model_fields)]
    return f"there is no such field; there are: {', '.join(fields)}"
