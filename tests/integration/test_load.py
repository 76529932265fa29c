"""`python -m loadtests run` as people run it, small: against a real node, and one whose way is not a good one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import trustme

from loadtests.kit.local import local
from loadtests.kit.outputs import read as read_result
from loadtests.kit.profile import read as read_profile
from loadtests.kit.result import Result
from loadtests.kit.target import Target
from loadtests.oracle import SPEAKER
from tests.support.loading import came
from tests.support.relaying import relay

SMALL: Mapping[str, object] = {
    "connections": 6,
    "ramp": 0.3,
    "warm_up": 0,
    "duration": 1,
    "settle": 5,
    "rate": 40,
    "processes": 2,
    "expect": "{lost: 0, refused: 0, closed: 0}",  # how fast a busy machine is, is no matter of a test
}
DEADLINE = 120.0  # seconds


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended."""

    code: int
    said: str
    result: Result | None


class Kit:
    """The command line, with a target and its key."""

    def __init__(self, target: Target, folder: Path) -> None:
        self.url = target.urls[0]
        self.folder = folder
        self.key = folder / "key.pem"
        self.key.write_text(target.tokens.key, encoding="utf-8")

    def command(self, scenario: str, *options: str, url: str = "", **fields: object) -> list[str]:
        """Return a command."""
        changes = [f"--set={name}={value}" for name, value in {**SMALL, **fields}.items()]
        where = [f"--target={url or self.url}", f"--key={self.key}", "--kid=bench", f"--report={self.folder}"]
        return [sys.executable, "-m", "loadtests", "run", scenario, *where, *changes, *options]

    async def run(self, scenario: str, *options: str, url: str = "", **fields: object) -> Ended:
        """Run to the end."""
        async with self.running(*self.command(scenario, *options, url=url, **fields)) as process:
            return await self.ended(process)

    @asynccontextmanager
    async def running(self, *command: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """Start a command; end it with the body."""
        environ = {name: it for name, it in os.environ.items() if name != "GATEWAY_LOAD_SECRET"}
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=environ)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()

    async def ended(self, process: asyncio.subprocess.Process) -> Ended:
        """Wait until it has ended; return what it left."""
        said, complained = await asyncio.wait_for(process.communicate(), DEADLINE)
        path = self.folder / "result.json"
        assert process.returncode is not None
        return Ended(process.returncode, (said + complained).decode(), read_result(path) if path.exists() else None)


@pytest.fixture(name="plain", scope="module")
def _plain() -> Iterator[Target]:
    with local(read_profile("fan-out")) as target:
        yield target


@pytest.fixture(name="kept", scope="module")
def _kept() -> Iterator[Target]:
    with local(read_profile("recovery")) as target:
        yield target


@pytest.fixture(name="kit")
def _kit(plain: Target, tmp_path: Path) -> Kit:
    return Kit(plain, tmp_path)


def _figures(ended: Ended) -> Result:
    assert ended.result is not None, ended.said
    return ended.result


def _fine(ended: Ended) -> int:
    """Return the code of a run that went well: how much of a core a busy machine gave it, is no matter of a test."""
    return 3 if _figures(ended).saturated else 0


async def test_two_processes_play_and_all_is_counted_once(kit: Kit) -> None:
    """Every publication reaches every subscriber of both processes; figures, nodes and command are in the result."""
    ended = await kit.run("fan-out", channels=2)
    result = _figures(ended)
    assert (_fine(ended), True, []) == (ended.code, result.audit.clean, result.broken), (
        result.closes,
        result.refusals,
        ended.said,
    )
    assert result.audit.published == result.audit.acknowledged
    assert result.audit.delivered == 3 * result.audit.published
    assert result.delivery.count == 3 * result.acknowledge.count
    assert sum(it.delivered for it in result.seconds) == result.audit.delivered
    assert 35 <= result.acknowledge.count <= 41
    assert (8, 6) == (result.connect.count, result.subscribe.count)
    assert 0 < came(result.delivery.p50) <= came(result.delivery.p99) <= came(result.delivery.max)
    assert [0, 1] == [it.process for it in result.generators]
    assert 8 == sum(it.connections for it in result.generators)
    assert 8 == max(it.connections for it in result.nodes)
    assert {"gateway", "python"} <= set(result.versions)
    assert result.command.startswith("python -m loadtests run fan-out")


@pytest.mark.parametrize("scenario", ["one-to-one", "rooms", "idle"])
async def test_scenarios_without_history_are_clean(kit: Kit, scenario: str) -> None:
    """Nothing lost, nothing refused, and the run says so."""
    rate = 0 if scenario == "idle" else 40
    ended = await kit.run(scenario, namespace="load", channels=2, members=3, rate=rate)
    assert _fine(ended) == ended.code, ended.said
    assert _figures(ended).audit.clean


async def test_a_lost_publication_fails_the_run(kit: Kit) -> None:
    """One client lacks one publication of many: the audit counts it and names it, and the command ends with 1."""
    lost: list[bytes] = []

    def keeps(payload: bytes) -> bool:
        if not lost and b'"pub"' in payload and json.loads(payload)["push"]["pub"]["data"]["n"] % (1 << SPEAKER) == 9:
            lost.append(payload)
            return False
        return True

    async with relay(kit.url) as way:
        way.keeps = keeps
        ended = await kit.run("fan-out", url=way.url, connections=1, processes=1, rate=20)
    result = _figures(ended)
    assert len(lost) == 1
    assert (_fine(ended) or 1, 1, False) == (ended.code, result.audit.lost, result.audit.clean), ended.said
    assert "silent gap" in result.audit.offences[0]
    assert ["lost"] == [it.name for it in result.broken]


async def test_who_is_cut_off_comes_back_and_misses_nothing(kept: Target, tmp_path: Path) -> None:
    """With recovery a lost connection loses nothing, its close is counted, and how long the return took."""
    kit = Kit(kept, tmp_path)
    async with relay(kit.url) as way:
        command = kit.command("fan-out", url=way.url, namespace="history", recovery=True, duration=3)
        async with kit.running(*command) as process:
            await _measuring(process)
            way.hang_up()
            ended = await kit.ended(process)
    result = _figures(ended)
    assert result.audit.clean, result.audit
    assert (8, 8) == (result.closes.get("1006"), result.recover.count)
    assert 0.2 < came(result.recover.max) / 1000 < 30
    delivered, taken = result.audit.delivered - result.audit.repeats, result.audit.acknowledged
    assert 6 * taken <= delivered <= 6 * (taken + result.audit.doubtful)
    assert "closed" in [it.name for it in result.broken]


async def test_a_subscription_that_is_dead_after_a_return_is_found(kit: Kit) -> None:
    """Everybody comes back and is told that he is subscribed, and nothing comes any more: without history, too."""

    def loses(payload: bytes) -> bool:
        return b'"pub"' not in payload

    async with relay(kit.url) as way:
        command = kit.command("fan-out", url=way.url, duration=4, expect="{lost: 0}")
        async with kit.running(*command) as process:
            await _measuring(process)
            way.keeps = loses
            way.hang_up()
            ended = await kit.ended(process)
    result = _figures(ended)
    assert (_fine(ended) or 1, True) == (ended.code, result.audit.lost > 0), ended.said
    assert any("silent tail" in it for it in result.audit.offences)
    assert result.delivery.missing >= result.audit.lost


async def test_a_server_that_stalls_cannot_hide(kit: Kit) -> None:
    """What was due in a stall is timed from when it was due: half a second of silence is in the latencies."""
    async with relay(kit.url) as way, kit.running(*kit.command("fan-out", url=way.url, duration=2)) as process:
        await _measuring(process)
        way.held.clear()
        await asyncio.sleep(0.6)  # the stall itself
        way.held.set()
        ended = await kit.ended(process)
    result = _figures(ended)
    assert result.audit.clean
    assert came(result.delivery.max) > 500
    # Of 80 publications some 24 were due meanwhile, evenly: a tenth of all waited for more than half of the stall.
    assert came(result.delivery.p90) > 250


async def test_a_server_that_stalls_to_the_end_fails_the_run(kit: Kit) -> None:
    """It closed nothing; what it never answered is a fault."""
    async with relay(kit.url) as way:
        command = kit.command("fan-out", f"--metrics={kit.url}/metrics", url=way.url, duration=2, settle=1)
        async with kit.running(*command) as process:
            await _measuring(process)
            way.held.clear()
            ended = await kit.ended(process)
    result = _figures(ended)
    assert (_fine(ended) or 1, False) == (ended.code, result.audit.clean), ended.said
    assert {} == result.closes, ended.said
    assert result.audit.doubtful
    # The latest of what was due never came, and nobody is told a latency that only the first had.
    assert (None, True) == (result.delivery.max, result.delivery.missing >= result.audit.doubtful)
    assert any("were never answered" in it for it in result.audit.offences)


async def test_tls_is_checked_unless_told_not_to(kit: Kit) -> None:
    """An unknown certificate is refused with a word on --ca and --insecure; with either it works."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    file = kit.folder / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    async with relay(kit.url, context) as way:
        refused = await kit.run("fan-out", url=way.url)
        assert (2, True) == (refused.code, "--ca FILE" in refused.said), refused.said
        for option in (f"--ca={file}", "--insecure"):
            ended = await kit.run("fan-out", option, f"--metrics={kit.url}/metrics", url=way.url, rate=5)
            assert _fine(ended) == ended.code, ended.said


async def test_ctrl_c_ends_early_with_a_report(kit: Kit) -> None:
    """What was measured until then is reported, audited and all, and the command ends with 130."""
    async with kit.running(*kit.command("fan-out", duration=600)) as process:
        await _measuring(process)
        process.send_signal(signal.SIGINT)
        ended = await kit.ended(process)
    result = _figures(ended)
    assert (130, True) == (ended.code, result.audit.clean), ended.said
    assert 0 < result.measured < 60
    assert result.audit.delivered == 6 * result.audit.published


async def test_a_generator_that_fails_is_no_passed_run(kit: Kit) -> None:
    """A process of it that is killed ends the run at once, with 4 and with what happened; no others are left."""
    async with kit.running(*kit.command("fan-out", duration=600)) as process:
        await _measuring(process)
        workers = psutil.Process(process.pid).children()
        assert 2 == len(workers)
        workers[0].kill()
        ended = await kit.ended(process)
    assert (4, None) == (ended.code, ended.result), ended.said
    assert "of the generator ended with -9" in ended.said
    assert not any(it.is_running() and it.status() != psutil.STATUS_ZOMBIE for it in workers)


async def test_ctrl_c_in_the_ramp_leaves_nothing(kit: Kit) -> None:
    """There is nothing to report yet: 130, and no file."""
    async with kit.running(*kit.command("fan-out", ramp=600)) as process:
        assert process.stderr is not None
        await asyncio.wait_for(process.stderr.readline(), DEADLINE)
        process.send_signal(signal.SIGINT)
        ended = await kit.ended(process)
    assert (130, None) == (ended.code, ended.result), ended.said


async def _measuring(process: asyncio.subprocess.Process) -> None:
    """Wait until a run measures, by what it says."""
    assert process.stderr is not None
    async with asyncio.timeout(DEADLINE):
        while b" measure " not in await process.stderr.readline():
            assert not process.stderr.at_eof(), "it ended before it measured"


REFUSALS: dict[str, tuple[Callable[[Kit], list[str]], str]] = {
    "nobody": (lambda _: ["--target=http://127.0.0.1:9"], "refuses connections"),
    "path": (lambda kit: [f"--target={kit.url}/nope"], "is the path right"),
    "tls": (lambda kit: [f"--target={kit.url.replace('http', 'https')}"], "does not speak TLS"),
    "name": (lambda _: ["--target=http://no..where"], "'no..where'"),
    "kid": (lambda _: ["--kid=other"], "does not accept the tokens"),
    "audience": (lambda _: ["--audience=other"], "--audience"),
    "namespace": (lambda _: ["--set=namespace=other"], '"name": "other"'),
    "rights": (lambda _: ["--set=namespace="], "`channel.without_namespace` lacks allow_subscribe"),
    "field": (lambda _: ["--set=rat=5"], "there is no such field"),
    "change": (lambda _: ["--set=rate"], "--set rate=500"),
    "core": (lambda _: ["--cores=4096"], "there is no core 4096"),
    "files": (lambda _: ["--set=connections=100000000"], "open files"),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_what_cannot_be_played_is_said_in_one_sentence(kit: Kit, name: str) -> None:
    """Before anything is measured, with what to do about it, and the command ends with 2."""
    options, sentence = REFUSALS[name]
    ended = await kit.run("fan-out", *options(kit))
    assert (2, None) == (ended.code, ended.result), ended.said
    assert sentence in ended.said
    assert ended.said.startswith("loadtests: ")
    assert ended.said.count("\n") == 1


async def test_tokens_of_a_secret_a_file_or_none(plain: Target, tmp_path: Path) -> None:
    """Each way to a token is tried at the target, and says what it lacks."""
    kit = Kit(plain, tmp_path)
    base = [sys.executable, "-m", "loadtests", "run", "fan-out", f"--target={kit.url}", "--set=connections=2"]
    bad = tmp_path / "tokens.txt"
    bad.write_text("a.b.c\n", encoding="utf-8")
    for options, sentence in (
        ([], "give --secret, --key or --tokens"),
        ([f"--secret={'s' * 32}"], "does not accept the tokens"),
        ([f"--tokens={bad}"], "expired, or of another issuer"),
        ([f"--tokens={bad}", f"--secret={'s' * 32}"], "give one of them"),
    ):
        async with kit.running(*base, *options) as process:
            ended = await kit.ended(process)
        assert (2, True) == (ended.code, sentence in ended.said), ended.said


async def test_a_node_of_its_own_is_the_target_when_none_is_named(tmp_path: Path) -> None:
    """Without --target a node and a Valkey are started, loaded and ended; JSON and page go where they are wanted."""
    kit = Kit(Target(urls=[""], label=""), tmp_path)
    changes = [f"--set={name}={value}" for name, value in SMALL.items()]
    command = [sys.executable, "-m", "loadtests", "run", "rooms", *changes, f"--report={tmp_path}", "--quiet"]
    async with kit.running(*command, f"--json={tmp_path / 'more' / 'r.json'}") as process:
        ended = await kit.ended(process)
    assert _fine(ended) == ended.code, ended.said
    assert "Valkey" in _figures(ended).versions["engine"]
    assert json.loads((tmp_path / "more" / "r.json").read_text())["scenario"] == "rooms"
