"""The gateway with redis-py's pipeline in the place of its own command link: what 1:1 is compared with.

python -m loadtests.bench.reference_link serve ...

Everything else is the same node, and Redis gets the same commands. What has come together while one pipeline is under
way goes with the next, as teams build it on redis-py: one task, one `execute()` at a time, replies handed out in order.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError

from gateway import cli
from gateway.engines.redis import link, server, wire
from gateway.engines.redis.address import Address
from gateway.engines.redis.link import Link
from gateway.engines.redis.packing import Args
from gateway.engines.redis.wire import Answered
from gateway.errors import EngineFault


def _as_written(module: ModuleType) -> Any:
    """Return a module from its source: a class that was compiled cannot be derived from."""
    origin = Path(str(module.__file__)).parent / f"{module.__name__.rpartition('.')[2]}.py"
    spec = spec_from_file_location(f"{module.__name__}_as_written", origin)
    assert spec is not None
    assert spec.loader is not None
    copy = module_from_spec(spec)
    spec.loader.exec_module(copy)
    return copy


if TYPE_CHECKING:
    from gateway.engines.redis.wire import Wire
else:
    Wire = _as_written(wire).Wire


class PipelinedWire(Wire):
    """The usual wire while a link is dialled and checked; `through` sends what follows through redis-py."""

    _redis: Redis | None = None
    _sender: asyncio.Task[None] | None = None

    def through(self, redis: Redis) -> None:
        """Send commands this way from now on; the wire stays as the sign that the server is there."""
        self._redis = redis
        self._batch: list[tuple[Args, Answered]] = []
        self._due = asyncio.Event()
        self._sender = asyncio.get_running_loop().create_task(self._send(redis), name="redis-py pipeline")

    def call(self, args: Args, done: Answered) -> None:
        """See Wire."""
        if self._redis is None:
            super().call(args, done)
            return
        self._batch.append((args, done))
        self._due.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """See Wire."""
        super().connection_lost(exc)
        if self._sender is not None:
            self._sender.cancel()

    async def _send(self, redis: Redis) -> None:
        batch: list[tuple[Args, Answered]] = []
        try:
            while True:
                await self._due.wait()
                self._due.clear()
                batch, self._batch = self._batch, []
                replies = await self._execute(redis, batch)
                for (_, done), reply in zip(batch, replies, strict=True):
                    done(self._converted(reply))
                batch = []
        except (RedisError, OSError) as error:
            self.abort(f"redis-py: {error}")
        finally:
            self._fail([done for _, done in (*batch, *self._batch)], EngineFault("lost", "closed"))
            with suppress(RedisError, OSError):
                await redis.aclose()

    @staticmethod
    async def _execute(redis: Redis, batch: list[tuple[Args, Answered]]) -> list[Any]:
        async with redis.pipeline(transaction=False) as pipe:
            for args, _ in batch:
                pipe.execute_command(*args)
            return list(await pipe.execute(raise_on_error=False))

    def _converted(self, reply: Any) -> Any:
        if not isinstance(reply, ResponseError):
            return reply
        if isinstance(reply, NoScriptError | ReadOnlyError):
            self.abort(str(reply))
        return EngineFault("refused", str(reply))


class PipelinedLink(Link):
    """A link whose commands go through redis-py once it is up; that for pub/sub stays as it is."""

    def _new_wire(self) -> Wire:
        link.Wire = PipelinedWire if self.role == "command" else wire.Wire  # type: ignore[attr-defined] # see `main`
        return super()._new_wire()

    def _up(self, wire: Wire) -> None:
        if self.role == "command" and isinstance(wire, PipelinedWire) and self.address is not None:
            wire.through(client(self.address))
        super()._up(wire)


def client(address: Address) -> Redis:
    """Return redis-py's client for this server, whose replies stay as hiredis parsed them."""
    redis: Redis = Redis(
        host=address.host,
        port=address.port,
        db=address.db,
        username=address.username or None,
        password=address.password or None,
        protocol=3,
    )
    redis.response_callbacks.clear()
    return redis


def main() -> None:
    """Run the gateway's command line with the other link."""
    # The one seam: a server makes its links, and a link its wires, by a name of its module.
    server.Link = PipelinedLink  # type: ignore[attr-defined] # no export: it is not meant to be replaced
    cli.main()


if __name__ == "__main__":
    main()
