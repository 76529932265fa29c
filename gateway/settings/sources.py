"""Where settings come from: a file, variables, flags; later ones win, and each remembers where a value stood."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import yaml

from gateway.settings.classify import own_keys

Tree = dict[str, object]
PREFIX: Final = "GATEWAY_"
_KUBERNETES: Final = re.compile(
    r"(?P<service>GATEWAY(?:_[A-Z0-9_]+?)??)_(?:SERVICE_(?:HOST|PORT(?:_\w+)?)|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?)?)"
)
_READERS: Final[Mapping[str, Callable[[str], object]]] = {
    ".toml": tomllib.loads,
    ".yaml": yaml.safe_load,
    ".yml": yaml.safe_load,
    ".json": json.loads,
}


@dataclass(slots=True)
class Source:
    """One source; `spell` gives a key the way it is written there, `where` what to add to find it."""

    tree: Tree = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    spell: Callable[[str], str] = str
    where: str = ""

    def label(self, key: str) -> str:
        """Name a key so that an operator finds it; what stands inside a list keeps its place in brackets."""
        option, bracket, inside = key.partition("[")
        return f"{self.spell(option)}{bracket}{inside}{self.where}"


def from_file(path: Path) -> Source:
    """Read TOML, YAML or JSON, as the name of the file ends."""
    source = Source(where=f" in {path.name}")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        source.faults.append(f"{path}: a configuration file ends in .toml, .yaml, .yml or .json")
        return source
    try:
        content: object = reader(path.read_text(encoding="utf-8"))
    except OSError as error:
        source.faults.append(f"{path}: cannot be read: {error.strerror}")
    except (ValueError, yaml.YAMLError) as error:
        source.faults.append(f"{path}: is not valid {path.suffix[1:].upper()}: {' '.join(str(error).split())}")
    else:
        if isinstance(content, dict):
            source.tree = content
        elif content is not None:
            source.faults.append(f"{path}: should hold sections such as [client], not a {type(content).__name__}")
    return source


def from_environ(environ: Mapping[str, str]) -> Source:
    """Take `GATEWAY_A__B` as `a.b`; names that Kubernetes injects for a Service called gateway are left alone."""
    source = Source(spell=variable)
    for name in sorted(environ):
        if name.startswith(PREFIX) and not _injected(name, environ):
            _take(source, name, environ[name])
    return source


def from_flags(flags: Mapping[str, object]) -> Source:
    """Take settings by their dotted names; None = the flag was not given."""
    source = Source(where=" (flag)")
    for key, value in flags.items():
        if value is not None:
            put(source.tree, key, value)
    return source


def variable(key: str) -> str:
    """Return the name of the variable for a dotted key."""
    return PREFIX + key.upper().replace(".", "__")


def put(tree: Tree, key: str, value: object) -> None:
    """Set a dotted key, making the sections on the way."""
    *sections, last = key.split(".")
    for section in sections:
        inner = tree.setdefault(section, {})
        if not isinstance(inner, dict):
            return  # the value that stands where a section belongs is reported as what it is
        tree = inner
    tree[last] = value


def get(tree: Mapping[str, object], key: str) -> object:
    """Return the value at a dotted key, None without one."""
    value: object = tree
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def merge(trees: Sequence[Tree]) -> Tree:
    """Lay the trees over each other, the last on top; lists are replaced whole."""
    merged: Tree = {}
    for tree in trees:
        _overlay(merged, tree)
    return merged


def _overlay(under: Tree, over: Mapping[str, object]) -> None:
    for name, value in over.items():
        if isinstance(value, Mapping):
            below = under.get(name)
            inner: Tree = below if isinstance(below, dict) else {}
            under[name] = inner
            _overlay(inner, value)
        else:
            under[name] = value


def _injected(name: str, environ: Mapping[str, str]) -> bool:
    match = _KUBERNETES.fullmatch(name)
    return match is not None and (match["service"] == "GATEWAY" or f"{match['service']}_SERVICE_HOST" in environ)


def _take(source: Source, name: str, text: str) -> None:
    key = name.removeprefix(PREFIX).lower().replace("__", ".")
    if own_keys().get(key) == "section":
        source.faults.append(f"{name}: is a section; set {name}__<KEY>")
    else:
        put(source.tree, key, _parse(source, name, text))


def _parse(source: Source, name: str, text: str) -> object:
    if not text.lstrip().startswith(("[", "{")):
        return text
    try:
        value: object = json.loads(text)
    except ValueError as error:
        source.faults.append(f"{name}: is not valid JSON: {error}")
        return []
    return value
