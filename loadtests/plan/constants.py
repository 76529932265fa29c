"""The constants of the model, each with its range and where it comes from: read from and written to TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from importlib.resources import files
from math import isfinite
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, TypeVar, get_args

from loadtests.plan.workload import PlanError

SHIPPED: Final = files("loadtests") / "plan" / "constants.toml"
MICRO: Final = 1e-6
UNITS: Final = {"us": MICRO, "bytes": 1.0}
HEAD: Final = """\
# What one thing costs: CPU and Redis in microseconds of a core, memory in bytes.
# basis: "measured" by the runs named in source; "derived" from figures that say it together with others;
# "assumed": nobody has measured it yet, and low and high are far apart.
# `python -m loadtests plan fit` writes this file.
"""

Basis: TypeAlias = Literal["measured", "derived", "assumed"]
Which: TypeAlias = Literal["low", "value", "high"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """One of them. `value` in its unit; the truth is thought to lie from `low` to `high`."""

    value: float
    low: float
    high: float
    unit: str
    basis: Basis
    source: str
    about: str
    date: str = ""
    machine: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCosts:
    """Seconds of a node's core; each goes with the field of `node.Load` that has its name."""

    node: float
    connection: float
    accept: float
    token: float
    leave: float
    subscribe: float
    publication: float
    call: float
    history: float
    envelope: float
    write: float
    frame: float
    byte: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryCosts:
    """Bytes of a node."""

    node: float
    connection: float
    subscription: float
    kernel: float
    waiting: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisCosts:
    """Seconds of the core of a server; those whose names end in `bytes` are its memory."""

    publish: float
    history: float
    push: float
    presence: float
    subscribe: float
    read: float
    renew: float
    probe: float
    entry_bytes: float
    kept_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyCosts:
    """What ends TLS: seconds of its core, and bytes of its memory."""

    handshake: float
    byte: float
    connection_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """All of them at one end of their ranges, or in the middle."""

    node: NodeCosts
    memory: MemoryCosts
    redis: RedisCosts
    proxy: ProxyCosts


SECTIONS: Final[Mapping[str, type[Any]]] = {
    "node": NodeCosts,
    "memory": MemoryCosts,
    "redis": RedisCosts,
    "proxy": ProxyCosts,
}


class Constants(dict[str, Constant]):
    """By name: `node.write`, `redis.push`. Complete: every field of every section is there."""

    def costs(self, which: Which = "value") -> Costs:
        """Return them in seconds and bytes."""
        return Costs(
            node=self._section("node", NodeCosts, which),
            memory=self._section("memory", MemoryCosts, which),
            redis=self._section("redis", RedisCosts, which),
            proxy=self._section("proxy", ProxyCosts, which),
        )

    def _section(self, section: str, kind: type[T], which: Which) -> T:
        values: dict[str, Any] = {}
        for name in names(section):
            constant = self[f"{section}.{name}"]
            values[name] = float(getattr(constant, which)) * UNITS[constant.unit]
        return kind(**values)


def names(section: str) -> list[str]:
    """Return the names of a section's constants, in their order."""
    return [it.name for it in fields(SECTIONS[section])]


def read(path: Path | None = None) -> Constants:
    """Return the constants of a file, or those that come with the kit. Raises PlanError."""
    name = "constants.toml" if path is None else str(path)
    try:
        text = SHIPPED.read_text(encoding="utf-8") if path is None else path.read_text(encoding="utf-8")
        told: dict[str, Any] = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PlanError(f"{name} cannot be read: {error}") from None
    wanted = {f"{section}.{it}" for section in SECTIONS for it in names(section)}
    found = {f"{section}.{it}" for section, table in told.items() if isinstance(table, dict) for it in table}
    if wanted != found:
        raise PlanError(f"{name}: {_difference('lacks', wanted - found)}{_difference('knows no', found - wanted)}")
    return Constants({it: _constant(name, it, told) for it in _ordered(wanted)})


def write(constants: Constants, path: Path) -> None:
    """Write them so that `read` returns the same."""
    parts = [HEAD]
    for name in _ordered(constants):
        it = constants[name]
        numbers = "".join(f"{key} = {getattr(it, key):.6g}\n" for key in ("value", "low", "high"))
        words = (key for key in ("unit", "basis", "source", "date", "machine", "about") if getattr(it, key))
        parts.append(f"[{name}]\n{numbers}" + "".join(f"{key} = {_quoted(getattr(it, key))}\n" for key in words))
    path.write_text("\n".join(parts), encoding="utf-8")


def _constant(file: str, name: str, told: Mapping[str, Any]) -> Constant:
    section, _, field = name.partition(".")
    table = told[section][field]
    try:
        constant = Constant(**table)
        values = [float(constant.low), float(constant.value), float(constant.high)]
    except (TypeError, ValueError) as error:
        raise PlanError(f"{file}: {name}: {error}") from None
    if not all(map(isfinite, values)) or values[0] < 0 or values != sorted(values):
        raise PlanError(f"{file}: {name}: 0 <= low <= value <= high must hold")
    if constant.unit not in UNITS or constant.basis not in get_args(Basis):
        raise PlanError(
            f"{file}: {name}: unit must be one of {', '.join(UNITS)}, basis one of {', '.join(get_args(Basis))}"
        )
    return constant


def _ordered(wanted: Iterable[str]) -> list[str]:
    order = [f"{section}.{it}" for section in SECTIONS for it in names(section)]
    return sorted(wanted, key=order.index)


def _difference(words: str, which: set[str]) -> str:
    return f" {words} {', '.join(sorted(which))}." if which else ""


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
