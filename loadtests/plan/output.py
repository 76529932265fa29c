"""Shows a plan, a fit and a check: tables of 80 columns, plain where nobody looks at them, and JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loadtests.plan import wording
from loadtests.plan.capacity import Plan, Range
from loadtests.plan.check import Prediction
from loadtests.plan.constants import Constants
from loadtests.plan.fit import Fitted
from loadtests.plan.limits import Limit
from loadtests.plan.wording import Words, bits, count, seconds, share, size

WIDTH: Final = 80
SHOWN: Final = 6  # limits of a plan; the others are in its JSON

Value = Callable[[Plan], float]


def console() -> Console:
    """Return where to write; 80 columns, and no colours or frames unless it is a terminal."""
    return Console(width=WIDTH, highlight=False, soft_wrap=False)


def show(found: Range, nearest: Sequence[Limit], constants: Constants, to: Console) -> None:
    """Write what is needed, what decides it, what breaks first, and what is uncertain."""
    plan = found.value
    to.print(_asked(plan))
    for title, rows in _parts(plan):
        table = _table(to, "", "planned", "range")
        for name, value, words in rows:
            high = None if found.high is None else value(found.high)
            table.add_row(name, words(value(plan)), wording.between(value(found.low), value(plan), high, words))
        _print(to, title, table)
    _print(to, "Pods that each resource alone would need", _deciding(plan, to))
    _print(to, "What more pods do not mend, the nearest first", _breaking(nearest, to))
    for number, it in enumerate(nearest[:SHOWN], 1):
        to.print(f"{number}. {it.fix}")
    to.print()
    to.print(_uncertain(constants))


def as_json(found: Range, nearest: Sequence[Limit]) -> str:
    """Return the same as JSON: `low`, `value` and `high` (null: cannot be done) plans, and all limits."""
    plans = {"low": _plain(found.low), "value": _plain(found.value), "high": found.high and _plain(found.high)}
    limits = [{**msgspec.to_builtins(it), "share": it.share} for it in nearest]
    return _json({**plans, "limits": limits})


def show_fit(fitted: Fitted, before: Constants, to: Console) -> None:
    """Write each constant that changed beside what it was, and how far each run is from what they say."""
    table = _table(to, "", "was", "is", "range", "basis")
    for name, it in fitted.constants.items():
        if it != before[name]:
            spread = f"{_digits(it.low)}-{_digits(it.high)}"
            table.add_row(name, _digits(before[name].value), f"{_digits(it.value)} {it.unit}", spread, it.basis)
    _print(to, "Constants that these runs change", table)
    if fitted.errors:
        table = _table(to, "", "runs", "least", "most")
        for name, errors in fitted.errors.items():
            table.add_row(escape(name), str(len(errors)), f"{min(errors):+.0%}", f"{max(errors):+.0%}")
        _print(to, "What they say of each run: predicted beside seen", table)
    if fitted.ignored:
        to.print(f"{len(fitted.ignored)} other rows say nothing of a constant.")


def show_check(found: Iterable[Prediction], to: Console) -> None:
    """Write what was predicted beside what was seen."""
    table = _table(to, "node", "resource", "predicted", "seen", "error")
    for it in found:
        words = size if it.resource == "memory" else share
        error = f"{it.error:+.0%}" + ("" if it.holds else " OFF")
        table.add_row(escape(it.node), it.resource, words(it.predicted), words(it.seen), error)
    _print(to, "Predicted beside seen", table)


def check_as_json(found: Iterable[Prediction]) -> str:
    """Return the same as JSON."""
    return _json([{**msgspec.to_builtins(it), "error": it.error, "holds": it.holds} for it in found])


def fit_as_json(fitted: Fitted) -> str:
    """Return constants, errors by run, and the rows that were left out."""
    return _json(msgspec.to_builtins(fitted))


# --- inside


def _json(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=1).decode()


def _plain(plan: Plan) -> Mapping[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(plan)
    del told["course"]["moments"]
    return told


def _asked(plan: Plan) -> str:
    it, margin = plan.workload, plan.margin
    parts = [
        f"{count(it.connections)} connections, {count(it.channels)} channels of {count(it.subscribers)}",
        f"{count(it.rate)} publications/s of {size(it.size)}, {count(it.deliveries)} deliveries/s",
        f"with history {share(it.history)}, presence {share(it.presence)}, by the API {share(it.api)}",
        f"{count(it.churn)} connections/s come and go",
    ]
    lost = f"{margin.lost_zones} of {margin.zones} zones" if margin.lost_zones else "no zone"
    pods = f" and {margin.lost_pods} pods" if margin.lost_pods else ""
    return "\n".join(parts) + f"\nat most {share(margin.cpu)} of a core when {lost}{pods} are lost\n"


def _parts(plan: Plan) -> Sequence[tuple[str, Sequence[tuple[str, Value, Words]]]]:
    zones = plan.margin.zones
    nodes: Sequence[tuple[str, Value, Words]] = [
        (f"pods, in {zones} zones" if zones > 1 else "pods", lambda it: it.pods.count, count),
        ("connections of a pod", lambda it: it.pods.connections, count),
        ("  after the loss", lambda it: it.pods.connections_after, count),
        ("CPU of a node's core", lambda it: it.pods.cpu, share),
        ("  after the loss", lambda it: it.pods.cpu_after, share),
        ("memory to give a pod", lambda it: it.pods.memory, size),
        ("network of a pod, the wider way", lambda it: it.pods.network.wider, bits),
        ("frames in a write", lambda it: it.pods.together, lambda value: f"{value:.2f}"),
    ]
    redis: Sequence[tuple[str, Value, Words]] = [
        ("servers, a core each", lambda it: it.servers.count, count),
        ("CPU of the hottest", lambda it: it.servers.busy, share),
        ("memory of all", lambda it: it.servers.memory, size),
        ("publications passed on/s", lambda it: it.servers.operations.push, count),
        ("presence, reads, subscribes/s", _other_operations, count),
        ("network in", lambda it: it.traffic.redis.into, bits),
        ("network out", lambda it: it.traffic.redis.out, bits),
    ]
    world: Sequence[tuple[str, Value, Words]] = [
        ("to clients, with TLS", lambda it: it.traffic.clients.out, bits),
        ("from clients", lambda it: it.traffic.clients.into, bits),
        ("cores that end TLS", lambda it: it.proxies.cores, count),
        ("  while all come back", lambda it: it.proxies.cores_in_storm, count),
        ("memory of proxies", lambda it: it.proxies.memory, size),
        ("tokens/s of the auth service", lambda it: it.tokens, count),
    ]
    back: Sequence[tuple[str, Value, Words]] = [
        ("connections lost", lambda it: it.lost, count),
        ("accepts/s of the others", lambda it: it.course.accepts, count),
        ("half are back after", lambda it: it.course.half, seconds),
        ("99 % are back after", lambda it: it.course.all, seconds),
        ("attempts refused meanwhile", lambda it: it.course.refused, count),
    ]
    loss = f"After the loss (held up by {plan.course.bound})"
    return [("Nodes", nodes), ("Redis", redis), ("In front", world), *([(loss, back)] if plan.lost else [])]


def _other_operations(plan: Plan) -> float:
    it = plan.servers.operations
    return it.users + it.presence + it.read + it.subscribe


def _deciding(plan: Plan, to: Console) -> Table:
    table = _table(to, "", "pods")
    for name, pods in sorted(plan.pods.needs.items(), key=lambda it: -it[1]):
        table.add_row(name, count(pods) + ("  decides" if name == plan.pods.binding else ""))
    return table


def _breaking(nearest: Sequence[Limit], to: Console) -> Table:
    table = _table(to, "", "used", "there is", "share")
    for number, it in enumerate(nearest[:SHOWN], 1):
        words = bits if it.unit == "bit/s" else seconds if it.unit == "s" else _amount
        table.add_row(f"{number}. {it.name}", words(it.used), words(it.limit), share(it.share))
    return table


def _amount(value: float) -> str:
    return f"{value:.2g}" if value < 1 else count(value)


def _uncertain(constants: Constants) -> str:
    assumed = [name for name, it in constants.items() if it.basis == "assumed"]
    if not assumed:
        return "All constants are measured."
    return (
        f"Ranges: all constants at their low, or all at their high end. {len(assumed)} of {len(constants)} are\n"
        f"assumed, not measured: {', '.join(assumed)}."
    )


def _print(to: Console, title: str, table: Table) -> None:
    to.print(title, style="bold")
    to.print(table)
    to.print()


def _table(to: Console, *columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD if to.is_terminal else None, pad_edge=False)
    for at, column in enumerate(columns):
        table.add_column(column, justify="right" if at else "left", overflow="fold")
    return table


def _digits(value: float) -> str:
    return f"{value:.3g}" if value < 1e5 else f"{value:,.0f}"
