"""From what a command line asks for to a run, its report and its exit code."""

from __future__ import annotations

import asyncio
import re
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import msgspec
import uvloop

from loadtests.kit import outputs
from loadtests.kit.outputs import Outputs
from loadtests.kit.profile import Profile
from loadtests.kit.progress import Progress
from loadtests.kit.result import Result
from loadtests.kit.target import Target, TargetError, Tokens, by_key, by_secret, listed
from loadtests.workers import room
from loadtests.workers.pool import CrashError, RunError
from loadtests.workers.probe import probe
from loadtests.workers.run import Plan, Run

PASSED: Final = 0
BROKEN: Final = 1
SATURATED: Final = 3
CRASHED: Final = 4
INTERRUPTED: Final = 130
PATIENCE: Final = 2.0  # seconds for a page of metrics
RANGE: Final = re.compile(r"(\d+)(?:-(\d+))?")
HIDDEN: Final = ("--secret",)  # options whose values no report shows


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A run as it was asked for. `urls` empty: a node of its own."""

    profile: Profile
    urls: list[str] = field(default_factory=list)
    tokens: Tokens = field(default_factory=Tokens)
    metrics: list[str] = field(default_factory=list)
    ca: str = ""
    insecure: bool = False
    processes: int = 0
    cores: list[int] = field(default_factory=list)
    outputs: Outputs = field(default_factory=Outputs)
    quiet: bool = False


def play(wanted: Wanted) -> int:
    """Run and report; return the exit code. Raises TargetError: it cannot be played."""
    allowed = room.raise_limit()
    local = not wanted.urls
    of = wanted.processes or room.processes(wanted.profile, local=local)
    room.check_limit(wanted.profile, of, allowed, local=local)
    progress = Progress(sys.stderr, quiet=wanted.quiet)
    with _target(wanted) as target:
        try:
            result, interrupted = uvloop.run(_run(wanted, target, of, progress))
        except RunError as error:
            raise TargetError(str(error)) from None
        except CrashError as error:
            progress.say(f"the generator failed:\n{error}")
            return CRASHED
        finally:
            progress.end()
    if result is not None:
        outputs.leave(result, wanted.outputs)
    return code(result, interrupted=interrupted)


def code(result: Result | None, *, interrupted: bool) -> int:
    """Return how a run ends."""
    if interrupted or result is None:
        return INTERRUPTED
    if result.saturated:
        return SATURATED
    return PASSED if result.passed else BROKEN


def tokens(*, secret: str, key: Path | None, kid: str, listed_in: Path | None, audience: str, issuer: str) -> Tokens:
    """Return how clients show who they are. Raises TargetError: several ways, or one that cannot be used."""
    ways = [name for name, it in (("--secret", secret), ("--key", key), ("--tokens", listed_in)) if it]
    if len(ways) > 1:
        raise TargetError(f"{' and '.join(ways)}: give one of them (GATEWAY_LOAD_SECRET counts as --secret)")
    if key is not None:
        return by_key(key, kid=kid, audience=audience, issuer=issuer)
    if listed_in is not None:
        return listed(listed_in)
    return by_secret(secret, audience=audience, issuer=issuer) if secret else Tokens()


def core_numbers(text: str) -> list[int]:
    """Read `1,2,5-7`. Raises TargetError: it is something else, or a core that is not there."""
    found: list[int] = []
    for part in filter(None, text.split(",")):
        if (numbers := RANGE.fullmatch(part)) is None:
            raise TargetError(f"--cores {text}: write numbers and ranges, as in 1,2,5-7")
        first, last = numbers.groups()
        found += range(int(first), int(last or first) + 1)
    if missing := sorted(set(found) - set(room.cores())):
        raise TargetError(f"--cores {text}: there is no core {missing[0]} here, but {room.cores()}")
    return found


def command(arguments: Sequence[str]) -> str:
    """Return what repeats this run, without secrets."""
    shown, hide = ["python", "-m", "loadtests"], False
    for it in arguments:
        name, equals, _ = it.partition("=")
        shown.append("..." if hide else f"{name}=..." if equals and name in HIDDEN else it)
        hide = it in HIDDEN
    return shlex.join(shown)


# --- inside


@contextmanager
def _target(wanted: Wanted) -> Iterator[Target]:
    if not wanted.urls:
        from loadtests.kit.local import local  # noqa: PLC0415 - needs what only developers have

        with local(wanted.profile) as target:
            yield target
        return
    pages = wanted.metrics or [_metrics_of(it) for it in wanted.urls]
    yield Target(
        urls=wanted.urls,
        label=", ".join(wanted.urls),
        tokens=wanted.tokens,
        metrics=pages,
        ca=wanted.ca,
        insecure=wanted.insecure,
    )


def _metrics_of(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme.replace('ws', 'http', 1)}://{rest.partition('/')[0]}/metrics"


async def _run(wanted: Wanted, target: Target, of: int, progress: Progress) -> tuple[Result | None, bool]:
    await probe(target, wanted.profile)
    remarks = _shared_tokens(target.tokens, wanted.profile)
    if not target.local and not wanted.metrics:
        target, more = await _with_readable_metrics(target)
        remarks += more
    run = Run(
        Plan(
            profile=wanted.profile,
            target=target,
            command=command(sys.argv[1:]),
            processes=of,
            cores=wanted.cores,
            around=room.generator_cores(local=True) if target.local else [],
            remarks=remarks,
        ),
        progress,
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, run.stop)
    try:
        return await run.play(), run.interrupted
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)


def _shared_tokens(tokens: Tokens, profile: Profile) -> list[str]:
    wanted = profile.connections + profile.publishers
    if tokens.kind != "listed" or len(tokens.listed) >= wanted:
        return []
    few = f"{len(tokens.listed):,} tokens were shared by {wanted:,} connections"
    return [f"{few}: to the target, users with many connections each (see `client.user_connection_limit`)"]


async def _with_readable_metrics(target: Target) -> tuple[Target, list[str]]:
    """Leave out the pages that are not where they are guessed to be: often another port has them."""
    readable, remarks = [], []
    async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False, verify=not target.insecure) as http:
        for url in target.metrics:
            why = await _unreadable(http, url)
            if why:
                remarks.append(
                    f"{url} is no page of metrics ({why}): what the nodes did is not known; name it with --metrics"
                )
            else:
                readable.append(url)
    return msgspec.structs.replace(target, metrics=readable), remarks


async def _unreadable(http: httpx.AsyncClient, url: str) -> str:
    """Return why this cannot be read; empty if it can."""
    try:
        status = (await http.get(url)).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return str(error) or type(error).__name__
    return "" if status == httpx.codes.OK else f"it answers {status}"
