"""Writes what the model says into docs/topics/scaling.md, between its marks, and the figure beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from loadtests.plan import constants, wording
from loadtests.plan.capacity import Plan, Range, between
from loadtests.plan.constants import Constants
from loadtests.plan.limits import Limit, limits
from loadtests.plan.named import NAMED
from loadtests.plan.wording import bits, count, seconds, share
from loadtests.plan.workload import Margin, PlanError, Pod
from loadtests.reports.drawing import Line, Panel, course

PAGE: Final = Path("topics") / "scaling.md"
FIGURE: Final = Path("images") / "scaling.svg"
SIZES: Final = (10_000, 100_000, 1_000_000, 10_000_000)
DRAWN: Final = 1_000_000  # connections of the figure
SPAN: Final = 60.0  # seconds of it
MARK: Final = re.compile(r"<!-- (\w+) -->\n.*?<!-- /\1 -->", re.DOTALL)
TOLD: Final = (
    "A zone of three is lost, with a third of a million connections. Above: the share of them that is back, over 60 s. "
    "Below: attempts a second of all clients together, most of them at first then in waves that the backoff spreads."
)


def write(docs: Path) -> None:
    """Bring the page and its figure up to date. Raises PlanError: there is no such page."""
    page = docs / PAGE
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise PlanError(f"{page} cannot be read: {error.strerror}") from None
    page.write_text(filled(text), encoding="utf-8")
    (docs / FIGURE).write_text(figure(), encoding="utf-8")


def filled(text: str) -> str:
    """Return the page with what the model says between its marks."""
    known = constants.read()
    parts: Mapping[str, Callable[[], str]] = {
        "constants": partial(_constants, known),
        **{name: partial(_sizes, name, known) for name in NAMED},
    }
    return MARK.sub(lambda it: f"<!-- {it[1]} -->\n{parts[it[1]]()}<!-- /{it[1]} -->", text)


def figure() -> str:
    """Return the way back after a lost zone, for each named workload, as SVG."""
    costs = constants.read()
    plans = {name: between(make(DRAWN), Margin(), Pod(), costs).value for name, make in NAMED.items()}
    return course(
        [
            Panel(
                title="back, share of those lost", lines=_lines(plans, lambda it: [m.back for m in it.course.moments])
            ),
            Panel(
                title="attempts a second",
                lines=_lines(plans, lambda it: [m.tried for m in it.course.moments]),
                may_be_log=True,
            ),
        ],
        seconds=SPAN,
        told=TOLD,
    )


# --- inside


def _lines(plans: Mapping[str, Plan], values: Callable[[Plan], Sequence[float]]) -> list[Line]:
    lines = []
    for name, plan in plans.items():
        times = [it.at for it in plan.course.moments]
        lines.append(Line(name, [(at, it or None) for at, it in zip(times, values(plan), strict=True) if at <= SPAN]))
    return lines


def _sizes(name: str, known: Constants) -> str:
    rows = []
    for connections in SIZES:
        found = between(NAMED[name](connections), Margin(), Pod(), known)
        rows.append(_size(connections, found, limits(found.value, known.costs())))
    return table(
        (
            "connections",
            "deliveries/s",
            "pods",
            "CPU of a core",
            "Redis",
            "to clients",
            "99 % back after",
            "nearest limit",
        ),
        rows,
    )


def _size(connections: int, found: Range, nearest: Sequence[Limit]) -> Sequence[str]:
    plan = found.value

    def spanned(value: Callable[[Plan], float], words: wording.Words) -> str:
        high = None if found.high is None else value(found.high)
        return wording.spanned(value(found.low), value(plan), high, words)

    return (
        count(connections),
        count(plan.workload.deliveries),
        spanned(lambda it: it.pods.count, count),
        share(plan.pods.cpu),
        spanned(lambda it: it.servers.count, count),
        bits(plan.traffic.clients.out),
        spanned(lambda it: it.course.all, seconds),
        f"{nearest[0].name}, {share(nearest[0].share)}",
    )


def _constants(known: Constants) -> str:
    rows = []
    for name, it in known.items():
        span = f"{_digits(it.value)} ({_digits(it.low)}-{_digits(it.high)})"
        source = f"{it.source}; {it.date}, {it.machine}" if it.date else it.source
        rows.append((f"`{name}`", it.about, f"{span} {'µs' if it.unit == 'us' else it.unit}", it.basis, source))
    return table(("constant", "what", "value", "basis", "source"), rows)


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    return "".join(f"| {' | '.join(it)} |\n" for it in (head, ["---"] * len(head), *rows))
