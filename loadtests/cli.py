"""The commands of `python -m loadtests`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from loadtests.kit.profile import Profile, ProfileError, names, read
from loadtests.kit.target import TargetError

BAD_INPUT: Final = 2
COMING_WITH: Final = "begin with one of those that come with the kit (`list SCENARIO` shows it):"
HELP: Final = """
Puts load on a realtime gateway and says what came of it: latency as the clients see it, what was lost, what it cost.

\b
  python -m loadtests list                              what can be played
  python -m loadtests run fan-out                       against a node of its own on this machine
  python -m loadtests run fan-out --target https://realtime.example.org --secret ...
  python -m loadtests report load-reports/.../result.json
  python -m loadtests compare                           beside the servers that others build with
  python -m loadtests plan --connections 1M --like rooms    how much of everything a workload needs
"""
RUN: Final = """
Plays a scenario and reports on it.

\b
A first look, with a node and a Valkey that are started on this machine:
  run fan-out
More load, for longer (the fields are those of the profile, see `list fan-out`):
  run fan-out --set rate=200 --set connections=5000 --set duration=60
A system of your own; several nodes may be named, each with its metrics:
  run one-to-one --target https://rt.example.org --key private.pem --kid 2026-11 --metrics http://10.0.0.7:8001/metrics
A profile of your own, judged by what it expects:
  run rooms --profile friday-evening.yaml --report reports/friday

\b
It ends with 0 if all that the profile expects held, 1 if not or if a publication was lost, 2 if it could not be
played, 3 if the generator was the bottleneck (then there are no figures: give it --processes, cores, or a machine of
its own), 4 if the generator crashed, 130 after Ctrl-C, with a report of what was measured until then.
"""

app = typer.Typer(
    name="loadtests",
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
ELSEWHERE: Final = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(help=RUN)
def run(
    scenario: Annotated[str, typer.Argument(help="What to play; see `list`.")],
    *,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="Where the load goes: http(s):// or ws(s)://. Repeat it for several nodes. "
            "[default: a node that is started on this machine]",
        ),
    ] = None,
    profile: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A profile of your own. [default: the scenario's]")
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the profile: rate=500, expect.p99=20."),
    ] = None,
    secret: Annotated[
        str,
        typer.Option(
            envvar="GATEWAY_LOAD_SECRET",
            metavar="SECRET",
            help="Sign tokens with this secret of the target. Others see command lines: rather use the variable.",
        ),
    ] = "",
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Sign tokens with this private key: PEM or JWK.")
    ] = None,
    kid: Annotated[str, typer.Option(help="Its id in the target's JWKS.")] = "",
    tokens: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Take the tokens of this file, one a line.")
    ] = None,
    audience: Annotated[str, typer.Option(help="The `aud` of signed tokens; empty: none.")] = "gateway",
    issuer: Annotated[str, typer.Option(help="The `iss` of signed tokens.")] = "",
    metrics: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="A node's page of metrics; repeat it. [default: /metrics of each target]"),
    ] = None,
    ca: Annotated[Path | None, typer.Option(metavar="FILE", help="Trust the certificates that this CA signed.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Trust every certificate.")] = False,
    processes: Annotated[
        int, typer.Option(min=0, help="Processes of the generator. 0: as the profile says, or one for each spare core.")
    ] = 0,
    cores: Annotated[
        str,
        typer.Option(metavar="1,2,5-7", help="Keep the processes on these cores, in turn. [default: any spare one]"),
    ] = "",
    json: Annotated[
        Path | None,
        typer.Option(metavar="FILE", allow_dash=True, readable=False, help="Also write the result here; -: print it."),
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the page here.")] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to write result.json and report.html. [default: in load-reports/]"),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """See RUN, which takes the place of this line."""
    from loadtests.kit import outputs, playing  # noqa: PLC0415 - `list` and `--help` need not wait for them

    try:
        wanted = playing.Wanted(
            profile=_profile(scenario, profile, change or []),
            urls=target or [],
            tokens=playing.tokens(secret=secret, key=key, kid=kid, listed_in=tokens, audience=audience, issuer=issuer),
            metrics=metrics or [],
            ca=str(ca or ""),
            insecure=insecure,
            processes=processes,
            cores=playing.core_numbers(cores),
            outputs=outputs.Outputs(json=json, html=html, folder=report),
            quiet=quiet,
        )
        raise typer.Exit(playing.play(wanted))
    except (ProfileError, TargetError) as error:
        _give_up(str(error))


@app.command("list")
def list_(
    scenario: Annotated[str, typer.Argument(help="Show its whole profile, to begin one of your own with.")] = "",
) -> None:
    """Say what can be played, and with which numbers."""
    from loadtests.kit import listing  # noqa: PLC0415 - imports all scenarios

    try:
        typer.echo(listing.profile(scenario) if scenario else listing.scenarios(), nl=False)
    except ProfileError as error:
        _give_up(str(error))


@app.command()
def report(
    results: Annotated[list[Path], typer.Argument(metavar="RESULT.json...", help="What runs have left.")],
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the page here.")] = None,
) -> None:
    """Show the result of an earlier run again, or of several that were played at once as one."""
    from loadtests.kit import outputs  # noqa: PLC0415 - draws

    try:
        outputs.again(results, html)
    except TargetError as error:
        _give_up(str(error))


@app.command(context_settings=ELSEWHERE, add_help_option=False)
def compare(context: typer.Context) -> None:
    """Measure this gateway beside the servers that others build with."""
    from loadtests.compare.command import compare as comparing  # noqa: PLC0415 - a tool of its own

    tool = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    tool.command()(comparing)
    tool(args=context.args, prog_name="python -m loadtests compare")


@app.command(context_settings=ELSEWHERE, add_help_option=False)
def plan(context: typer.Context) -> None:
    """Say how many pods and servers of Redis a workload needs."""
    from loadtests.plan.command import app as planning  # noqa: PLC0415 - a tool of its own

    planning(args=context.args, prog_name="python -m loadtests plan")


def _profile(scenario: str, file: Path | None, changes: list[str]) -> Profile:
    pairs = dict(_pair(it) for it in changes)
    if file is None and scenario not in names():
        raise ProfileError(f"there is no scenario {scenario!r}; there are: {', '.join(names())}")
    if file is not None and file.suffix not in {".yaml", ".yml"}:
        raise ProfileError(f"--profile {file}: a profile is a .yaml file; {COMING_WITH} {', '.join(names())}")
    if file is not None and not file.is_file():
        raise ProfileError(f"--profile {file}: there is no such file; {COMING_WITH} {', '.join(names())}")
    found = read(scenario if file is None else str(file), pairs)
    if found.scenario != scenario:
        raise ProfileError(f"--profile {file}: is one for the scenario {found.scenario!r}, not for {scenario!r}")
    return found


def _pair(text: str) -> tuple[str, str]:
    field, equals, value = text.partition("=")
    if not (field and equals):
        raise ProfileError(f"--set {text}: write FIELD=VALUE, as in --set rate=500")
    return field.strip(), value


def _give_up(text: str) -> None:
    typer.echo(f"loadtests: {text}", err=True)
    raise typer.Exit(BAD_INPUT)
