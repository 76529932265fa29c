"""What a configuration key is to us: ours, or what the table of Centrifugo's keys says."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal, TypeVar

from gateway.settings.centrifugo_v6 import IGNORED, MAPPED, REFUSED, SWITCHED
from gateway.settings.channel import NamespaceSettings, OptionsSettings
from gateway.settings.section import Section
from gateway.settings.tree import Settings

T = TypeVar("T")
_EMPTY: Final = (None, False, 0, "", "0", "0s", "false", "[]", "{}")
_OPTIONS: Final = re.compile(r"^channel\.(without_namespace|namespaces\[\d+\])\.")


@dataclass(frozen=True, slots=True)
class Class:
    """What becomes of a key; `why` says what to do, `harmless` is one more value that asks for nothing."""

    kind: Literal["ours", "section", "mapped", "switched", "ignored", "refused", "unknown"]
    why: str = ""
    harmless: str = ""

    def asks(self, value: object) -> bool:
        """Whether a value asks for something at all."""
        if isinstance(value, list | tuple | dict):
            return bool(value)
        return value not in _EMPTY and value != self.harmless


def classify(key: str) -> Class:
    """Return what becomes of a key such as `client.insecure` or `channel.namespaces[0].presence`."""
    plain = _OPTIONS.sub("<options>.", key)
    if kind := own_keys().get(plain):
        return Class(kind)
    if plain in MAPPED:
        return Class("mapped", MAPPED[plain])
    if (refused := _lookup(plain, REFUSED)) is not None:
        return Class("refused", refused) if isinstance(refused, str) else Class("refused", refused[1], refused[0])
    if (ignored := _lookup(plain, IGNORED)) is not None:
        return Class("ignored", ignored)
    if _lookup(plain, dict.fromkeys(SWITCHED, True)):
        return Class("switched")
    return Class("section") if _is_section(plain) else Class("unknown")


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the known name that somebody who wrote `name` most likely meant."""
    known = list(names)
    last = name.rpartition(".")[2]
    same = [it for it in known if it.rpartition(".")[2] == last]
    found = difflib.get_close_matches(name, same or known, n=1, cutoff=0.4 if same else 0.6)
    return found[0] if found else None


@cache
def own_keys() -> Mapping[str, Literal["ours", "section"]]:
    """Return our own keys with dots; options of namespaces under `<options>`."""
    keys = {key: kind for key, kind in _fields(Settings, "") if not _OPTIONS.match(key)}
    return keys | dict(_fields(NamespaceSettings, "<options>."))


def settable() -> Iterator[str]:
    """Return the dotted keys that can be set one by one, options of single namespaces aside."""
    yield from (key for key, kind in own_keys().items() if kind == "ours" and not key.startswith("<options>"))
    yield from (f"channel.without_namespace.{name}" for name in OptionsSettings.model_fields)


def _fields(section: type[Section], prefix: str) -> Iterator[tuple[str, Literal["ours", "section"]]]:
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            yield prefix + name, "section"
            yield from _fields(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, "ours"


def _lookup(key: str, table: Mapping[str, T]) -> T | None:
    if key in table:
        return table[key]
    return next((table[pattern] for pattern in table if "*" in pattern and _expression(pattern).fullmatch(key)), None)


@cache
def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*\*", ".+").replace(r"\*", r"[^.]*"))


@cache
def _is_section(key: str) -> bool:
    tables: tuple[Iterable[str], ...] = (MAPPED, REFUSED, IGNORED, SWITCHED)
    return any(other.startswith(f"{key}.") for table in tables for other in table)
