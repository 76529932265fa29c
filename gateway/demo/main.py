"""`gateway demo`: start everything, say what to try, wait, stop everything in reverse order."""

from __future__ import annotations

import asyncio
import fcntl
import json
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

from gateway.demo import programs
from gateway.demo.child import Child, ChildFault, start
from gateway.demo.guide import guide
from gateway.demo.plan import Plan, Secrets, check_ports, keep_secrets, move_key, url
from gateway.demo.ports import HOST, free_port
from gateway.errors import OperatorError


def run(plan: Plan) -> None:
    """Run the demo until SIGINT, SIGTERM or SIGHUP. Raises OperatorError when something is missing or goes away.

    When this returns or raises, everything that it started is gone; the kernel sees to it when this process is killed.
    """
    check_ports(plan)
    try:
        (plan.directory / "logs").mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OperatorError(f"{plan.directory} cannot be used ({error.strerror}): choose another --directory") from None
    with _alone_in(plan):
        move_key(plan)
        asyncio.run(_Demo(plan, keep_secrets(plan.directory)).run())


@contextmanager
def _alone_in(plan: Plan) -> Iterator[None]:
    with (plan.directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OperatorError(
                f"another demo runs in {plan.directory}: stop it, or choose another --directory"
            ) from None
        yield


@dataclass(slots=True)
class _Demo:
    plan: Plan
    secrets: Secrets
    children: list[Child] = field(default_factory=list)

    async def run(self) -> None:
        """Live until a signal comes or a child goes. A second signal kills what does not stop."""
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._signalled, asked)
        life = asyncio.create_task(self._live(), name="demo")
        stop = asyncio.create_task(asked.wait(), name="stop")
        await asyncio.wait({life, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        life.cancel()
        with suppress(asyncio.CancelledError):
            await life

    def _signalled(self, asked: asyncio.Event) -> None:
        if asked.is_set():
            for child in self.children:
                child.kill()
            return
        asked.set()
        _say("\nStopping.")

    async def _live(self) -> None:
        try:
            async with AsyncExitStack() as stack:
                await self._start_all(stack)
                _say(guide(self.plan, self.secrets))
                raise await _first_end(self.children)
        except ChildFault as fault:
            _say("\n".join(f"  | {line}" for line in fault.tail))
            raise

    async def _start_all(self, stack: AsyncExitStack) -> None:
        """Start in the order of need, but let the slow ones start side by side."""
        _say(f"Starting. Keys, users and logs are kept in {self.plan.directory}/")
        redis = await self._redis(stack)
        (self.plan.directory / "demo.json").write_text(json.dumps(self.plan.page), encoding="utf-8")
        auth = await self._start(stack, programs.auth_service(self.plan, self.secrets.api_key))
        nodes = [await self._start(stack, it) for it in programs.nodes(self.plan, redis, self.secrets.api_key)]
        await auth.until(partial(programs.answers, f"{self.plan.auth_url}/health/ready"))
        await programs.add_users(self.plan, self.secrets.passwords)
        _say(f"  auth service  {self.plan.auth_url}")
        for node, port in zip(nodes, self.plan.nodes.values(), strict=True):
            await node.until(partial(programs.answers, f"{url(port)}/health/ready"))
            _say(f"  {node.name}        {url(port)}")

    async def _redis(self, stack: AsyncExitStack) -> str:
        """Return the URL of a Redis that answers."""
        if self.plan.redis:
            await programs.check_redis(self.plan.redis)
            return self.plan.redis
        port = free_port({self.plan.port, self.plan.auth_port, self.plan.second_port})  # none listens yet
        at = f"redis://{HOST}:{port}/0"
        valkey = await self._start(stack, programs.valkey(self.plan, port))
        await valkey.until(partial(programs.redis_answers, at))
        _say(f"  Valkey        {at}")
        return at

    async def _start(self, stack: AsyncExitStack, program: programs.Program) -> Child:
        child = await stack.enter_async_context(start(program, self.plan.directory / "logs"))
        self.children.append(child)
        return child


async def _first_end(children: list[Child]) -> ChildFault:
    async with asyncio.TaskGroup() as group:
        ends = [group.create_task(child.ended()) for child in children]
        done, running = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in running:
            task.cancel()
        return next(iter(done)).result()


def _say(text: str) -> None:
    with suppress(OSError):  # the terminal is gone: that must not keep us from stopping what we started
        print(text, flush=True)  # noqa: T201 - talking to the terminal is what this command is for
