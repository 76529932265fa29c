"""Sources in, settings out, with every fault and warning as a line that says what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway.errors import OperatorError
from gateway.settings.channel import NamespaceSettings
from gateway.settings.classify import classify, nearest, settable
from gateway.settings.mapping import map_engine
from gateway.settings.sources import Source, Tree, from_environ, from_file, from_flags, get, merge, put
from gateway.settings.tokens import TokenSettings
from gateway.settings.tree import Settings
from gateway.settings.workers import worker_faults

NO_KEY: Final = (
    "no key to check tokens with: set client.token.jwks_public_endpoint (the auth service's JWKS), or "
    "client.token.oidc_issuer (an OIDC issuer), or client.token.hmac_secret_key (a shared secret), or "
    "client.insecure = true (for development only)"
)
_NAMESPACES: Final = "channel.namespaces"
_SUBJECT: Final = re.compile(r"^(Input|Value error,|String) ")


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of the sources; `settings` is None if there was a fault in them."""

    settings: Settings | None
    faults: Sequence[str]
    warnings: Sequence[str]


@dataclass(slots=True)
class _Sorted:
    own: list[Tree] = field(default_factory=list)
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
    found = _Sorted()
    for source in sources:
        _sort(source, found)
    own = merge(found.own)
    faults = [fault for source in sources for fault in source.faults] + found.faults + _map(found.mapped, own)
    if faults:
        return Checked(None, faults, found.warnings)
    try:
        settings = Settings.model_validate(own)
    except ValidationError as error:
        return Checked(None, [_invalid(it, sources) for it in error.errors()], found.warnings)
    if settings.client.insecure:
        found.warnings.append("client.insecure: everybody may do everything; for development only")
    elif not settings.client.token.has_key:
        faults.append(NO_KEY)
    faults.extend(worker_faults(settings))
    found.warnings.extend(_dangers(settings.client.token))
    return Checked(settings, faults, found.warnings)


def _dangers(token: TokenSettings) -> Iterator[str]:
    for it in token.trusted:
        if it.unguarded:
            yield f"client.token: the keys of {it.name or 'the issuer'} come over http: whoever is in between can sign"
    prefixes = [it.user_id_prefix for it in token.trusted]
    if len(set(prefixes)) < len(prefixes):
        yield "client.token.issuers: issuers with one user_id_prefix: equal user ids of theirs are one user"


def _sort(source: Source, found: _Sorted) -> None:
    own: Tree = {}
    for key, value in _leaves(source.tree, ""):
        it = classify(key)
        if it.kind == "ours":
            put(own, key, value)
        elif it.kind == "mapped":
            found.mapped[key] = value
        elif it.kind == "refused" and it.asks(value):
            found.faults.append(f"{source.label(key)}: not supported: {it.why}")
        elif it.kind == "ignored" and it.asks(value):
            found.warnings.append(f"{source.label(key)}: ignored: {it.why}")
        elif it.kind in ("unknown", "section"):
            found.faults.append(f"{source.label(key)}: {_unknown(key, it.kind, source)}")
    _fold_namespaces(own)
    found.own.append(own)


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


def _map(theirs: Mapping[str, object], own: Tree) -> list[str]:
    try:
        mapped = map_engine(theirs)
    except ValueError as error:
        return [str(error)]
    for key, value in mapped.items():
        if get(own, key) is None:  # what is said in our own words wins
            put(own, key, value)
    return []


def _unknown(key: str, kind: str, source: Source) -> str:
    if kind == "section":
        return "is a section and holds keys"
    entry = key.rpartition(".")[0]
    names = [f"{entry}.{it}" for it in NamespaceSettings.model_fields] if entry.endswith("]") else settable()
    meant = nearest(key.replace('"', ""), names)
    return "no such setting" + (f"; did you mean {source.spell(meant)}?" if meant else "")


def _invalid(error: ErrorDetails, sources: Sequence[Source]) -> str:
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"]).lstrip(".")
    field = key.partition("[")[0]
    label = next((it.label(key) for it in reversed(sources) if get(it.tree, field) is not None), key)
    if error["type"] in ("tuple_type", "list_type"):
        return f"{label}: should be a list (in a variable, one JSON value)"
    if error["type"] == "extra_forbidden":
        return f"{label}: no such setting"
    return f"{label}: {_SUBJECT.sub('', error['msg'])}"
