"""`python -m loadtests plan`: how much of everything a workload needs; `plan fit` and `plan check` keep it true."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import typer

from loadtests.plan import constants, fit, output, samples
from loadtests.plan.capacity import between
from loadtests.plan.check import check
from loadtests.plan.constants import Constants
from loadtests.plan.limits import limits
from loadtests.plan.named import NAMED
from loadtests.plan.wording import parsed
from loadtests.plan.workload import GIB, MOST, Margin, PlanError, Pod, Workload

WHOLE: Final = ("channels", "size", "kept")
HELP: Final = """
Says how many pods and servers of Redis a workload needs, what passes over the network,
how long clients need to come back after a zone was lost, and what breaks first.

\b
Numbers may end in k, M or G. What is not given is taken from --like, or is none.
\b
  plan --connections 1M --like rooms
  plan --connections 10M --like live --rate 5 --size 400
  plan --connections 10M --channels 1M --rate 200k --history 1 --presence 0.5
  plan --connections 50k --channels 500 --subscribers 300 --rate 100 --churn 40
  plan --connections 1M --like notifications --zones 1 --lost-zones 0 --lost-pods 2
  plan fit bench.json run1.json run2.json --output constants.toml
  plan check two-nodes.json --constants constants.toml

How it reckons, and how far to trust it: docs/topics/scaling.md.
"""

app = typer.Typer(
    name="plan",
    help=HELP,
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _number(text: str | float) -> float:
    try:
        return parsed(text) if isinstance(text, str) else text  # a default comes as it is
    except PlanError as error:
        raise typer.BadParameter(str(error)) from None


def _option(about: str, flag: str) -> Any:
    """Return an option that takes a number with a unit; not given is None."""
    return typer.Option(flag, parser=_number, metavar="NUMBER", help=about, show_default=False)


File: TypeAlias = Annotated[
    Path | None, typer.Option("--constants", metavar="FILE", help="Use these. [default: those of the kit]")
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Write JSON.")]
Files: TypeAlias = Annotated[list[Path], typer.Argument(metavar="FILE...")]


@app.callback()
def plan(
    context: typer.Context,
    *,
    connections: Annotated[float | None, _option("Open connections.", "--connections")] = None,
    like: Annotated[str, typer.Option(help=f"Begin with this workload: {', '.join(NAMED)}.")] = "",
    channels: Annotated[float | None, _option("Channels. [default: one each]", "--channels")] = None,
    subscribers: Annotated[
        float | None, _option("Of each channel. [default: each connection has one channel]", "--subscribers")
    ] = None,
    rate: Annotated[float | None, _option("Publications a second, in all channels.", "--rate")] = None,
    size: Annotated[float | None, _option("Bytes of a publication's data. [default: 100]", "--size")] = None,
    history: Annotated[float | None, _option("Share of channels with history, 0-1.", "--history")] = None,
    kept: Annotated[float | None, _option("Publications that history keeps. [default: 100]", "--kept")] = None,
    presence: Annotated[float | None, _option("Share of subscriptions in presence, 0-1.", "--presence")] = None,
    announced: Annotated[float | None, _option("Share whose coming and going is told, 0-1.", "--announced")] = None,
    api: Annotated[float | None, _option("Share published by the server API, 0-1.", "--api")] = None,
    churn: Annotated[float | None, _option("Connections a second that come, and go.", "--churn")] = None,
    zones: Annotated[int, typer.Option(help="Zones that the pods are spread over.")] = 3,
    lost_zones: Annotated[int | None, typer.Option(help="Of them may be lost. [default: 1, of one 0]")] = None,
    lost_pods: Annotated[int, typer.Option(help="Pods that may be lost besides.")] = 0,
    back: Annotated[float, typer.Option(help="Seconds after which 99 % of the lost are to be back.")] = 60.0,
    cpu: Annotated[float, typer.Option(help="Share of a core that is used then, of nodes and Redis.")] = 0.6,
    nodes: Annotated[int, typer.Option(help="Nodes of a pod (--workers), a core each.")] = 1,
    memory: Annotated[float, typer.Option(help="GiB that a pod may have.")] = 2.0,
    most: Annotated[float, _option("Connections a pod may have. [default: 50k]", "--connections-per-pod")] = 50_000.0,
    network: Annotated[float, _option("Bit/s of a pod, each way. [default: 1G]", "--network")] = 1e9,
    accepts: Annotated[
        float, _option("client.connection_rate_limit of a node, 0: none. [default: 500]", "--accepts")
    ] = 500.0,
    using: File = None,
    as_json: AsJson = False,
) -> None:
    """See HELP, which takes the place of this line."""
    if context.invoked_subcommand is not None:
        return
    with told():
        given = {
            "channels": channels, "subscribers": subscribers, "rate": rate, "size": size, "history": history,
            "kept": kept, "presence": presence, "announced": announced, "api": api, "churn": churn,
        }  # fmt: skip
        lost = min(1, zones - 1) if lost_zones is None else lost_zones
        known = constants.read(using)
        found = between(
            workload(connections, like, {name: it for name, it in given.items() if it is not None}),
            Margin(cpu=cpu, zones=zones, lost_zones=lost, lost_pods=lost_pods, back=back),
            Pod(
                nodes=nodes,
                memory=memory * GIB,
                connections=whole("connections per pod", most),
                network=network,
                accepts=accepts,
            ),
            known,
        )
        nearest = limits(found.value, known.costs())
        if as_json:
            typer.echo(output.as_json(found, nearest))
        else:
            output.show(found, nearest, known, output.console())


@app.command("fit")
def fit_command(
    files: Files,
    *,
    using: File = None,
    to: Annotated[Path | None, typer.Option("--output", metavar="FILE", help="Write the constants there.")] = None,
    source: Annotated[str, typer.Option(help="What to say they are from. [default: the names of the files]")] = "",
    date: Annotated[str, typer.Option(help="When that was measured. [default: today]")] = "",
    machine: Annotated[str, typer.Option(help="On what. [default: this machine]")] = "",
    as_json: AsJson = False,
) -> None:
    """Fit the constants to runs of one node: results of `loadtests run`, and of `loadtests.bench --json`.

    A JSON object of names of constants and values, as {"redis.push": [1.1, 1.2]}, says what was measured otherwise.
    """
    with told():
        before = constants.read(using)
        run = fit.Run(
            source or ", ".join(it.name for it in files),
            date or datetime.now(UTC).date().isoformat(),
            machine or f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
        )
        fitted = fit.fit(samples.read(files), before, run)
        if as_json:
            typer.echo(output.fit_as_json(fitted))
        else:
            output.show_fit(fitted, before, output.console())
        if to is not None:
            _write(fitted.constants, to)


@app.command("check")
def check_command(files: Files, *, using: File = None, as_json: AsJson = False) -> None:
    """Predict what runs of any number of nodes took, and end with 1 if anything is more than 20 % off."""
    with told():
        costs = constants.read(using).costs()
        found = [it for path in files for it in check(path, costs)]
        if as_json:
            typer.echo(output.check_as_json(found))
        else:
            output.show_check(found, output.console())
    if not all(it.holds for it in found):
        raise typer.Exit(1)


@app.command("page")
def page_command(
    docs: Annotated[Path, typer.Argument(metavar="FOLDER", help="The documentation.")] = Path("docs"),
) -> None:
    """Write the tables and the figure of docs/topics/scaling.md anew."""
    from loadtests.plan import page  # noqa: PLC0415 - it draws, which only developers can

    with told():
        page.write(docs)


def workload(connections: float | None, like: str, given: Mapping[str, float]) -> Workload:
    """Return what was asked for, on top of a named workload or of nothing. Raises PlanError."""
    if connections is None:
        raise PlanError("say how many --connections; `--help` has examples")
    if like and like not in NAMED:
        raise PlanError(f"there is no workload {like!r} to be like; these are: {', '.join(NAMED)}")
    number = whole("connections", connections)
    channels = whole("channels", given.get("channels", number))
    one_each = Workload(connections=number, channels=channels, subscribers=max(1.0, number / channels), rate=0)
    known = NAMED[like](number) if like else one_each
    changes: dict[str, Any] = {it: whole(it, value) if it in WHOLE else value for it, value in given.items()}
    if "channels" in changes and "subscribers" not in changes:
        changes["subscribers"] = one_each.subscribers
    return replace(known, **changes)


def whole(what: str, value: float) -> int:
    """Return a number of which there are no parts. Raises PlanError."""
    least = 0 if what == "kept" else 1
    if not least <= value <= MOST:
        raise PlanError(f"{what} must be from {least} to {MOST:,.0f}, not {value:,g}")
    return round(value)


@contextmanager
def told() -> Iterator[None]:
    """Tell in one line, and with code 2, what cannot be planned."""
    try:
        yield
    except PlanError as error:
        typer.echo(f"plan: {error}", err=True)
        raise typer.Exit(2) from None


def _write(found: Constants, to: Path) -> None:
    try:
        constants.write(found, to)
    except OSError as error:
        raise PlanError(f"{to} cannot be written: {error.strerror}") from None
