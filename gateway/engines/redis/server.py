"""One Redis server as this node knows it: a link for commands, one for pub/sub, and what is subscribed there."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import structlog

from gateway.contracts.clock import Clock
from gateway.contracts.engine import EngineOptions
from gateway.engines.redis.library import Library
from gateway.engines.redis.link import Link, Locate, Role
from gateway.engines.redis.packing import Args
from gateway.engines.redis.probe import OVERDUE, Probe
from gateway.engines.redis.subscriptions import Subscriptions
from gateway.engines.redis.topology import Names
from gateway.engines.redis.wire import Answered, Wire
from gateway.errors import EngineFault

PROBE_EVERY: Final = 1.0  # seconds
ROLE_EVERY: Final = 10.0  # seconds; a replica that may be written to does not give itself away by READONLY
STOOD_STILL: Final = 0.75  # seconds between two sweeps: our own loop was late, and answers may lie unread

UNSALTED: Final = "the server takes no writes, and has not said yet whether it has lost some"

log = structlog.get_logger(__name__)


class Server:
    """Both links find their way by `locate`, asked again at each dial; `name` says for people what is looked for.

    `prepare` is awaited on each new command connection before anything else is sent there; it raises EngineFault if
    the server will not do. `came_up` follows when commands are taken. `hosted` tells the names of the partitions that
    lie here: their salts are checked before any other command (see salt.lua), the probe goes through the first.
    """

    def __init__(
        self,
        name: str,
        locate: Locate,
        *,
        library: Library,
        clock: Clock,
        options: EngineOptions,
        prepare: Callable[[Wire], Awaitable[None]] | None = None,
    ) -> None:
        self.name = name
        self.library = library
        self.salted = options.epoch_salt
        self.came_up: Callable[[], None] = lambda: None
        self.hosted: Callable[[], Sequence[Names]] = lambda: ()
        self._prepare_more = prepare
        self._recorder = options.recorder
        self._reader = f"{options.node}@{name}"  # two servers must not listen for each other's probes
        self._identities: dict[Role, str] = {}  # of the process at the other end of each link
        self._origins: dict[str, str] = {}  # salt -> the identity of the server that handed the partition over
        self.unsalted: list[Names] = []  # partitions whose salt could not be checked yet: see `Partition.go_on`

        def link(role: Role, prepare_link: Callable[[Wire], Awaitable[None]]) -> Link:
            return Link(
                name,
                locate,
                role,
                clock=clock.monotonic,
                timeout=options.command_timeout,
                recorder=options.recorder,
                prepare=prepare_link,
            )

        self.commands = link("command", self._prepare_commands)
        self.pubsub = link("pubsub", self._prepare_pubsub)
        self.subscriptions = Subscriptions(
            self.pubsub, clock=clock.monotonic, timeout=options.subscribe_timeout, sharded=library.sharded
        )
        self._probe = Probe(
            self.subscriptions, clock=clock.monotonic, recorder=options.recorder, overdue=self._heard_nothing
        )
        self.commands.came_up = self._commands_came_up
        self.commands.went_down = self._commands_went_down
        self._resubscribe, self.pubsub.came_up = self.pubsub.came_up, self._pubsub_came_up
        self._listened, self.pubsub.went_down = self.pubsub.went_down, self._pubsub_went_down
        self._swept_at = clock.monotonic()
        self._excused = False  # the last sweep was left out
        self._probe_at = self._role_at = 0.0

    @property
    def links(self) -> Mapping[Role, Link]:
        """Both links by their role."""
        return {"command": self.commands, "pubsub": self.pubsub}

    @property
    def identity(self) -> str:
        """Which process takes the commands, or took the last ones; "" before there was any."""
        return self._identities.get("command", "")

    def outages(self) -> Sequence[str]:
        """Return what does not work right now, a line each."""
        return list(dict.fromkeys(link.fault for link in self.links.values() if link.fault))

    def sweep(self, now: float) -> None:
        """Enforce deadlines; call it a few times a second."""
        stood_still, self._swept_at = now - self._swept_at > STOOD_STILL, now
        if stood_still and not self._excused:
            self._excused = True  # what has come in meanwhile is read before anybody is called late
            return
        self._excused = False
        self.commands.sweep(now)
        self.pubsub.sweep(now)
        self.subscriptions.sweep(now)
        self._probe.sweep(now)
        if self.commands.answers:
            self._ask_again(now)

    def host(self, partitions: Iterable[Names], handed_over_by: Server | None) -> None:
        """Take in partitions; streams go on if the server that handed them over lives, and lost nothing thereby."""
        origin = handed_over_by.identity if handed_over_by is not None else ""
        for names in partitions:
            self._origins[names.salt] = origin
            if self.commands.up:
                self.commands.call(self._salt(names), partial(self._salted, names))

    def refuse(self, done: Answered) -> None:
        """Answer in the server's stead that it takes no writes."""
        self._recorder.count("redis_errors", "readonly")
        asyncio.get_running_loop().call_soon(done, EngineFault("readonly", UNSALTED))

    async def stands(self) -> None:
        """Wait until both links are up. Raises EngineFault, see Link."""
        for link in self.links.values():
            await link.stands()

    async def run(self) -> None:
        """Keep both links up until cancelled; then close them, answering whatever is in flight."""
        async with asyncio.TaskGroup() as links:
            for link in self.links.values():
                links.create_task(link.run(), name=f"redis link {self.name} {link.role}")

    # --- who is at the other end

    async def _prepare_commands(self, wire: Wire) -> None:
        await self.library.load(wire)
        if self._prepare_more is not None:
            await self._prepare_more(wire)
        self._identities["command"] = await _identity(wire)
        self.unsalted.clear()
        hosted = self.hosted()
        answers = await asyncio.gather(*(wire.ask(*self._salt(it)) for it in hosted), return_exceptions=True)
        for names, answer in zip(hosted, answers, strict=True):
            if isinstance(answer, EngineFault) and _passes(answer):
                self.unsalted.append(names)
            elif isinstance(answer, BaseException):
                raise answer
        self._note_salts(sum(answer for answer in answers if isinstance(answer, int)))

    async def _prepare_pubsub(self, wire: Wire) -> None:
        self._identities["pubsub"] = await _identity(wire)

    def _commands_came_up(self) -> None:
        self._compare("command", self.pubsub)
        self.came_up()

    def _commands_went_down(self, why: str) -> None:
        if why.startswith("READONLY"):
            self.pubsub.abort(why)

    def _pubsub_came_up(self) -> None:
        self._compare("pubsub", self.commands)
        self._resubscribe()

    def _pubsub_went_down(self, why: str) -> None:
        self._probe.forget()  # it cannot come in any more, and that is no news
        self._listened(why)

    def _compare(self, fresh: Role, other: Link) -> None:
        """Leave the server that the older link is on if the fresh one was led to another."""
        if other.up and self._identities["command"] != self._identities["pubsub"]:
            other.abort(f"the {fresh} link is on another server")

    def _note_salts(self, begun: int) -> None:
        if begun:
            self._recorder.count("redis_epochs_begun")
            log.warning("redis.epochs_begun", server=self.name, partitions=begun, identity=self._identities["command"])

    # --- what is asked again and again

    def _ask_again(self, now: float) -> None:
        if now >= self._probe_at:
            self._probe_at = now + PROBE_EVERY
            self._send_probe()
        if now >= self._role_at:
            self._role_at = now + ROLE_EVERY
            self.commands.call(("ROLE",), self._told_role)

    def _send_probe(self) -> None:
        """Check the salt of one partition, which takes a write, and let the same script send the probe."""
        home = next(iter(self.hosted()), None)
        if home is None:
            return
        channel = home.probe + self._reader
        self._probe.listen(channel)
        probe = self._probe.begin() if self.pubsub.up else None
        command = self._salt(home) if probe is None else self._salt(home, channel, probe)
        self.commands.call(command, partial(self._probed, probe))
        for names in tuple(self.unsalted):
            self.commands.call(self._salt(names), partial(self._salted, names))

    def _salt(self, names: Names, channel: str = "", probe: bytes = b"") -> Args:
        origin = self._origins.get(names.salt, "")
        return self.library.call("salt", (names.salt,), (secrets.token_hex(4), channel, probe, origin))

    def _probed(self, probe: bytes | None, reply: Any) -> None:
        if probe is not None:
            self._probe.answered(probe, reply)
        if not isinstance(reply, EngineFault):
            self._note_salts(reply)

    def _salted(self, names: Names, reply: Any) -> None:
        if names in self.unsalted:
            self.unsalted.remove(names)
        if not isinstance(reply, EngineFault):
            self._note_salts(reply)
        elif names in self.hosted():
            self.unsalted.append(names)

    def _heard_nothing(self) -> None:
        self.pubsub.abort(f"carries nothing: a probe did not come in within {OVERDUE:g} s")

    def _told_role(self, reply: Any) -> None:
        if not isinstance(reply, EngineFault) and reply[0] != b"master":
            for link in self.links.values():
                link.abort("is a replica by now")


def _passes(refusal: EngineFault) -> bool:
    """Whether a salt that could not be checked now is no reason to do without all the rest.

    A slot is on its way, or the server takes no writes: NOREPLICAS, MISCONF. READONLY says that it is not the primary.
    """
    return refusal.kind == "moved" or (refusal.kind == "readonly" and not refusal.detail.startswith("READONLY"))


async def _identity(wire: Wire) -> str:
    """Ask which process this is. The id of its replication would not do: it changes on a healthy primary."""
    found = re.search(rb"run_id:(\w+)", await wire.ask("INFO", "server"))
    return found[1].decode() if found else ""
