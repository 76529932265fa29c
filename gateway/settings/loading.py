"""Sources in, settings out, with every fault and warning as a line that says what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from gateway.errors import OperatorError
from gateway.settings.channel import NamespaceSettings
from gateway.settings.classify import classify, nearest, settable
from gateway.settings.mapping import map_engine
from gateway.settings.sources import Source, Tree, from_environ, from_file, from_flags, get, merge, put
from gateway.settings.tree import Settings

NO_KEY: Final = (
    "no key to check tokens with: set client.token.jwks_public_endpoint (the auth service's JWKS), or "
    "client.token.hmac_secret_key (a shared secret), or client.insecure = true (for development only)"
)
_NAMESPACES: Final = "channel.namespaces"
_VERBS: Final = re.compile(r"^(Input|Value error,|String|List|Tuple) ?")


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of the sources; `settings` is None if there was a fault in them."""

    settings: Settings | None
    faults: Sequence[str]
    warnings: Sequence[str]


@dataclass(slots=True)
class _Sorted:
    own: Tree = field(default_factory=dict)
    mapped: Tree = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def load(
    flags: Mapping[str, object] | None = None, *, config: Path | None = None, environ: Mapping[str, str]
) -> Settings:
    """Return the settings from flags (by dotted name) over variables over the file over defaults.

    Raises OperatorError with one line per fault.
    """
    checked = check(flags, config=config, environ=environ)
    if checked.settings is None or checked.faults:
        raise OperatorError("\n".join(checked.faults))
    return checked.settings


def check(
    flags: Mapping[str, object] | None = None, *, config: Path | None = None, environ: Mapping[str, str]
) -> Checked:
    """Read all sources and say everything that is wrong or ignored; `settings` may stand beside a missing key."""
    sources = [from_file(config)] if config else []
    sources += [from_environ(environ), from_flags(flags or {})]
    found = _sort(merge(sources), sources)
    faults = [fault for source in sources for fault in source.faults] + found.faults
    if faults:
        return Checked(None, faults, found.warnings)
    try:
        settings = Settings.model_validate(found.own)
    except ValidationError as error:
        return Checked(None, [_invalid(it["loc"], it["msg"], sources) for it in error.errors()], found.warnings)
    if settings.client.insecure:
        found.warnings.append("client.insecure: everybody may do everything; for development only")
    elif not settings.client.token.has_key:
        faults.append(NO_KEY)
    return Checked(settings, faults, found.warnings)


def _sort(tree: Tree, sources: Sequence[Source]) -> _Sorted:
    found = _Sorted()
    for key, value in _leaves(tree, ""):
        it = classify(key)
        if it.kind == "ours":
            put(found.own, key, value)
        elif it.kind == "mapped":
            found.mapped[key] = value
        elif it.kind == "refused" and it.asks(value):
            found.faults.append(f"{_label(key, sources)}: not supported: {it.why}")
        elif it.kind == "ignored" and it.asks(value):
            found.warnings.append(f"{_label(key, sources)}: ignored: {it.why}")
        elif it.kind in ("unknown", "section"):
            found.faults.append(_unknown(key, it.kind, sources))
    _fold_namespaces(found.own)
    _fold_engine(found)
    return found


def _leaves(tree: Mapping[str, object], prefix: str) -> Iterator[tuple[str, object]]:
    for name, value in tree.items():
        key = prefix + (f'"{name}"' if "." in str(name) else str(name))  # "a.b" is one strange name, not a in b
        if key == _NAMESPACES and isinstance(value, list) and all(isinstance(it, dict) for it in value):
            for index, entry in enumerate(value):
                yield from _leaves({"name": None, **entry}, f"{key}[{index}].")
        elif isinstance(value, dict) and classify(key).kind not in ("ours", "unknown", "refused"):
            yield from _leaves(value, f"{key}.")
        else:
            yield key, value


def _fold_namespaces(own: Tree) -> None:
    channel = own.get("channel")
    if isinstance(channel, dict):
        entries = [channel.pop(name) for name in list(channel) if name.startswith("namespaces[")]
        if entries:
            channel["namespaces"] = entries


def _fold_engine(found: _Sorted) -> None:
    try:
        mapped = map_engine(found.mapped)
    except ValueError as error:
        found.faults.append(str(error))
        return
    for key, value in mapped.items():
        if get(found.own, key) is None:  # what is said in our own words wins
            put(found.own, key, value)


def _label(key: str, sources: Sequence[Source]) -> str:
    plain = key.partition("[")[0]
    for source in reversed(sources):
        if get(source.tree, plain) is not None:
            label = source.label(plain)
            return label.replace(plain, key) if plain in label else f"{label}: {key}" if plain != key else label
    return key


def _unknown(key: str, kind: str, sources: Sequence[Source]) -> str:
    label = _label(key, sources)
    if kind == "section":
        return f"{label}: is a section and holds keys"
    entry = key.rpartition(".")[0]
    names = [f"{entry}.{it}" for it in NamespaceSettings.model_fields] if entry.endswith("]") else settable()
    meant = nearest(key.replace('"', ""), names)
    return f"{label}: no such setting" + (f"; did you mean {meant}?" if meant else "")


def _invalid(location: Sequence[int | str], message: str, sources: Sequence[Source]) -> str:
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    return f"{_label(key, sources)}: {_VERBS.sub('', message)}"
