"""The command `compare`: what it takes, what it prints, what it leaves behind."""

from __future__ import annotations

import asyncio
import resource
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from loadtests.bench.figures import HEAD
from loadtests.bench.rig import valkey
from loadtests.bench.slices import FULL, QUICK, Amount
from loadtests.compare.contestants import UnknownPeerError, chosen, of_ours, of_peer
from loadtests.compare.measuring import Ring, fan_out, idle
from loadtests.compare.outcome import Comparison, Entrant, written
from loadtests.compare.page import write_docs, write_report
from loadtests.identity import Issuer
from loadtests.peers.contract import Peer
from loadtests.watching.machine import engine_version, machine

FILES: Final = 65_536  # that this process and its children want to open: a socket for each client of each server


def compare(
    peers: Annotated[
        list[str] | None, typer.Argument(metavar="[PEER]...", help="Those to compare with; else all.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write all runs to this file.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write JSON, table and pictures into this folder.")] = None,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Only see that all works: no figures come of it.")] = False,
    docs: Annotated[bool, typer.Option("--write-docs", help="Write the table into docs/performance.md.")] = False,
) -> None:
    """Measure this gateway beside servers that others build with, each on one core in turn."""
    if quick and docs:
        raise typer.BadParameter("what comes of --quick are no figures: they are not for the docs")
    try:
        able, left_out = chosen(peers or ())
    except UnknownPeerError as error:
        raise typer.BadParameter(str(error)) from error
    for title, why in left_out.items():
        say(f"left out: {title}: {why}\n")
    _allow_files()
    try:
        comparison = asyncio.run(_run(able, left_out, QUICK if quick else FULL))
    except RuntimeError as error:  # a server did not start, or cut its clients off: without it this is no comparison
        say(f"\n{error}\n")
        raise typer.Exit(1) from error
    _show(comparison)
    _keep(comparison, json, report, docs=docs)
    if any(it.wrong or (it.void and not quick) for it in comparison.figures()):
        raise typer.Exit(1)


async def _run(peers: Sequence[Peer], left_out: dict[str, str], amount: Amount) -> Comparison:
    issuer, started = Issuer(), datetime.now(UTC)
    with issuer.serving() as jwks, valkey() as redis:
        contestants = [of_ours(issuer, jwks), *(of_peer(it) for it in peers)]
        ring = Ring(redis, amount, say)
        say("fan-out ")
        rows = await fan_out(contestants, ring)
        say("\nidle ")
        rows += await idle(contestants, ring)
        say("\n")
        return Comparison(
            started=started.isoformat(timespec="seconds"),
            command=shlex.join(
                ["python", "-m", "loadtests", "compare", *(it for it in sys.argv[1:] if it != "compare")]
            ),
            machine=machine(),
            engine=await engine_version(redis),
            subscribers=ring.subscribers,
            plateau=ring.plateau,
            quick=amount.quick,
            entrants=[
                Entrant(name=it.name, title=it.title, remark=it.remark, versions=dict(it.versions))
                for it in contestants
            ],
            left_out=left_out,
            rows=rows,
        )


def _show(comparison: Comparison) -> None:
    here = comparison.machine
    print(f"{here.model}, {here.cores} cores, {here.system}, {here.python}, {comparison.engine}")
    for it in comparison.entrants:
        print(f"  {it.title}: {', '.join(f'{name} {version}' for name, version in it.versions.items())}")
    for title, why in comparison.left_out.items():
        print(f"  {title}: LEFT OUT: {why}")
    if comparison.quick:
        print("QUICK: this is to see that everything works; none of it is a figure")
    print(HEAD)
    for figure in comparison.figures():
        print(figure.row())


def _keep(comparison: Comparison, json: Path | None, report: Path | None, *, docs: bool) -> None:
    text = written(comparison)
    kept = []
    if json:
        json.write_bytes(text)
        kept.append(json)
    if report:
        kept += write_report(comparison, text, report)
    if docs:
        kept += write_docs(comparison)
    for path in kept:
        say(f"wrote {path}\n")


def _allow_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def say(text: str) -> None:
    """Show progress."""
    sys.stderr.write(text)
    sys.stderr.flush()
