"""Writes the reference pages that are tables of the source; `check` says which are stale."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Final, TypeAlias, TypeVar

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from auth_service.audit import EVENTS as AUDIT_EVENTS
from auth_service.metrics import Metrics as AuthMetrics
from auth_service.settings import AuthSettings
from gateway import disconnects, errors
from gateway.metrics import COUNTERS, GAUGES, HISTOGRAMS, Metrics
from gateway.settings import Settings
from gateway.settings.durations import format_duration, parse_duration
from gateway.settings.section import Section
from gateway.settings.sources import variable

ROOT: Final = Path(__file__).parent.parent

PERMISSIONS: Final = tomllib.loads((Path(__file__).parent / "permissions.toml").read_text(encoding="utf-8"))
TEXTS: Final = tomllib.loads((Path(__file__).with_suffix(".toml")).read_text(encoding="utf-8"))
INTRO: Final[Mapping[str, str]] = TEXTS["intro"]

Row: TypeAlias = Sequence[str]
T = TypeVar("T")


def page(source: str, title: str, *parts: str) -> str:
    """Return a whole page."""
    note = f"<!-- Written by scripts/reference.py from {source}: change that, then run the script. -->"
    return "\n\n".join(part.strip("\n") for part in (note, f"# {title}", *parts)) + "\n"


def table(head: Row, rows: Iterable[Row]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


# --- codes


def codes() -> str:
    """Return the page of all codes. Raises KeyError for one that the texts do not explain."""
    closes = named(disconnects, disconnects.Disconnect)
    ends = named(disconnects, disconnects.Unsubscribed)
    refusals = named(errors, errors.ErrorReply)
    return page(
        "gateway/disconnects.py and gateway/errors.py",
        "Codes",
        "One table of each for all protocols. The numbers are those of the Centrifuge protocol, so SDKs act on them.",
        "## Close codes",
        INTRO["closes"],
        table(
            ("code", "reason", "come back?", "when"),
            ((str(it.code), it.reason, yes(it.reconnect), TEXTS["closes"][name]) for name, it in closes),
        ),
        "## Unsubscribe codes",
        "The end of one subscription while the connection lives on; from 2500 on the client is to subscribe again.",
        table(
            ("code", "reason", "subscribe again?", "when"),
            ((str(it.code), it.reason, yes(it.code >= 2500), TEXTS["ends"][name]) for name, it in ends),
        ),
        "## Errors",
        "The answer to one command of a client, or to one call of the server API. Temporary ones invite a retry.",
        table(
            ("code", "message", "temporary?", "when"),
            ((str(it.code), it.message, yes(it.temporary), TEXTS["errors"][name]) for name, it in refusals),
        ),
    )


def named(module: ModuleType, kind: type[T]) -> list[tuple[str, T]]:
    """Return the constants of a module that are of this kind, in its order."""
    return [(name, value) for name, value in vars(module).items() if isinstance(value, kind)]


def yes(is_so: bool) -> str:
    """Return a word for a table."""
    return "yes" if is_so else "no"


# --- settings


def settings() -> str:
    """Return the page of all settings, of the gateway and of the auth service."""
    parts: list[str] = []
    for name, field in Settings.model_fields.items():
        rows = table(("name", "variable", "default", "meaning"), of_section(name, field))
        parts += [f"## {name}", field.description or "", rows]
        if name == "channel":
            parts.append(INTRO["namespaces"])
    auth = ((f"`AUTH_{name.upper()}`", default(it), meaning(it)) for name, it in AuthSettings.model_fields.items())
    return page(
        "gateway/settings/ and auth_service/settings.py",
        "Settings",
        INTRO["settings"],
        *parts,
        "## Auth service",
        INTRO["auth_service"],
        table(("variable", "default", "meaning"), auth),
    )


def of_section(name: str, field: FieldInfo) -> Iterator[Row]:
    """Yield a row for each setting of a section and of those in it."""
    inner = field.annotation
    if isinstance(inner, type) and issubclass(inner, Section):
        for key, it in inner.model_fields.items():
            yield from of_section(f"{name}.{key}", it)
    else:
        yield f"`{name}`", f"`{variable(name)}`", default(field), meaning(field)


def default(field: FieldInfo) -> str:
    """Return the default as one writes it."""
    value = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is None:
        return "unset"
    if value == "":
        return "empty"
    if isinstance(value, str | Path) or is_duration(field):
        return f"`{shown(value, field)}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{json.dumps(value)}`"


def meaning(field: FieldInfo) -> str:
    """Return the description and what values are allowed."""
    text = (field.description or "").removesuffix(".") + "."
    found = {name: getattr(it, name) for it in field.metadata for name in ("ge", "gt", "le") if hasattr(it, name)}
    least, above, most = (shown(found[name], field) if name in found else "" for name in ("ge", "gt", "le"))
    bounds = [
        f"at least {least}" * (least not in ("", "0")),
        f"above {above}" * (above != ""),
        f"at most {most}" * (most != ""),
    ]
    limits = ", ".join(filter(None, bounds))
    return f"{text} {limits[:1].upper()}{limits[1:]}." if limits else text


def shown(value: object, field: FieldInfo) -> str:
    """Return a value of this field as one writes it."""
    return format_duration(parse_duration(value)) if is_duration(field) else str(value)


def is_duration(field: FieldInfo) -> bool:
    """Whether this is a span of time."""
    return any(getattr(it, "func", None) is parse_duration for it in field.metadata)


# --- metrics


def metrics() -> str:
    """Return the page of all metrics, of the gateway and of the auth service."""
    heads = ("name", "labels", "meaning")
    counters = (
        (f"`gateway_{name}_total`", labels(row.labels, row.values), row.help + remark(name))
        for name, row in COUNTERS.items()
    )
    histograms = (
        (f"`gateway_{row.name}`", ", ".join(f"{bound:g}" for bound in row.bounds), row.help + remark(name))
        for name, row in HISTOGRAMS.items()
    )
    gauges = (
        (f"`{name}`", labels((row.label,) if row.label else ()), row.help)
        for name, row in zip(gauge_names(), GAUGES.values(), strict=True)
    )
    return page(
        "gateway/metrics.py and auth_service/metrics.py",
        "Metrics",
        INTRO["metrics"],
        "## Counters",
        table(heads, counters),
        "## Histograms",
        table(("name", "buckets up to", "meaning"), histograms),
        "## Gauges",
        table(
            heads,
            [
                (
                    "`gateway_build_info`",
                    "`version`, `python`, `build`",
                    "What is running, compiled or interpreted; always 1.",
                ),
                *gauges,
            ],
        ),
        "## Auth service",
        table(("name", "kind", "meaning"), of_auth_service()),
    )


def gauge_names() -> list[str]:
    """Return the names that Prometheus sees, in the order of the table."""
    watched = Metrics()
    for name in GAUGES:
        watched.watch(name, float)
    return [it.name for it in watched.collect()][-len(GAUGES) :]


def labels(names: Sequence[str], values: str = "") -> str:
    """Return the labels of a metric, and what one label may be."""
    text = ", ".join(f"`{name}`" for name in names)
    return f"{text}: {', '.join(values.split())}" if values and len(names) == 1 else text


def remark(name: str) -> str:
    """Return what is to be said of a metric that is in the table but that no part of the gateway fills."""
    used = any(
        f'"{name}"' in path.read_text(encoding="utf-8") for path in sources("gateway") if path.name != "metrics.py"
    )
    return "" if used else " *Always 0 so far.*"


def of_auth_service() -> Iterator[Row]:
    """Yield the metrics of the auth service, those of its own parts last."""
    for it in AuthMetrics().registry.collect():
        name = f"{it.name}_total" if it.type == "counter" else it.name
        yield f"`{name}`", it.type, it.documentation
    for path in sources("auth_service"):
        for name, text in re.findall(r'\.gauge\("(\w+)", "([^"]+)"', path.read_text(encoding="utf-8")):
            yield f"`{name}`", "gauge", text


def sources(package: str) -> Iterator[Path]:
    """Yield the source files of a package."""
    return (path for path in sorted((ROOT / package).rglob("*.py")))


# --- the audit log


def audit() -> str:
    """Return the page of the audit log of the auth service."""
    rows = ((f"`{name}`", ", ".join(row.results.split()), row.meaning) for name, row in AUDIT_EVENTS.items())
    return page(
        "auth_service/audit.py",
        "The audit log of the auth service",
        INTRO["audit"],
        "## Events",
        table(("action", "result", "when"), rows),
    )


# --- permissions


def permissions() -> str:
    """Return the page of who may do what."""
    heads = {"tokens": ("token", "with `subscribe`", "with `sub_refresh`"), "refreshes": ("token", "outcome")}
    parts = {
        name: table(head, (tuple(it.values()) for it in PERMISSIONS[name].values())) for name, head in heads.items()
    }
    parts["roles"] = table(("", "who"), PERMISSIONS["roles"].items())
    parts["rules"] = "\n".join(part for action in PERMISSIONS["rules"] for part in of_action(action))
    return page("scripts/permissions.toml", "Permissions", PERMISSIONS["page"].format(**parts))


def of_action(action: str) -> Iterator[str]:
    """Yield the heading and the tables of one action, channels with the same rules in one table."""
    yield f"## {PERMISSIONS['actions'][action].capitalize()}\n"
    tables: dict[str, list[str]] = {}
    for channel, rules in PERMISSIONS["rules"][action].items():
        rows = ((role, re.sub(r"allow_\w+", r"`\g<0>`", rule)) for role, rule in rules.items())
        tables.setdefault(table(("who", "may"), rows), []).append(PERMISSIONS["channels"][channel])
    yield from (f"{', '.join(channels)}:\n\n{text}" for text, channels in tables.items())


# --- the pages

PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "docs/reference/codes.md": codes,
    "docs/reference/settings.md": settings,
    "docs/reference/metrics.md": metrics,
    "docs/reference/permissions.md": permissions,
    "docs/reference/auth-audit.md": audit,
}


def stale(root: Path = ROOT) -> list[str]:
    """Return the pages that are not what the source says."""
    found = {name: root / name for name in PAGES}
    return [
        name for name, path in found.items() if not path.exists() or path.read_text(encoding="utf-8") != PAGES[name]()
    ]


def main() -> int:
    """Write the pages, or with `check` name those to be written."""
    names = stale()
    if sys.argv[1:] == ["check"]:
        for name in names:
            print(f"{name} is not what the source says: run scripts/reference.py")
        return len(names)
    for name in names:
        (ROOT / name).write_text(PAGES[name](), encoding="utf-8")
        print(f"wrote {name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
