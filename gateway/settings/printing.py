"""The effective settings as a configuration file: every key, secrets masked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from gateway.settings.tree import Settings


def as_json(settings: Settings) -> str:
    """Return the tree as indented JSON."""
    return settings.model_dump_json(indent=2)


def as_toml(settings: Settings) -> str:
    """Return the tree as TOML, a table for each section; what is unset is left out."""
    return "\n".join(_table(settings.model_dump(mode="json"), "")).strip()


def _table(tree: Mapping[str, object], path: str) -> Iterator[str]:
    for name, value in tree.items():
        if value is not None and not _is_nested(value):
            yield f"{name} = {json.dumps(value)}"  # strings, numbers, booleans and lists of them are written alike
    for name, value in tree.items():
        inner = f"{path}.{name}" if path else name
        if isinstance(value, Mapping):
            yield f"\n[{inner}]"
            yield from _table(value, inner)
        elif isinstance(value, list) and _is_nested(value):
            for entry in value:
                yield f"\n[[{inner}]]"
                yield from _table(entry, inner)


def _is_nested(value: object) -> bool:
    return isinstance(value, Mapping) or (isinstance(value, list) and any(isinstance(it, Mapping) for it in value))
