"""The official Python SDK at the end of a pipe; `peers.py` holds the other end and says what the lines mean.

It runs in a process of its own, with one version of the SDK and nothing else to import.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from centrifuge import (
    Client,
    ClientEventHandler,
    ConnectedContext,
    ConnectingContext,
    DisconnectedContext,
    ErrorContext,
    JoinContext,
    LeaveContext,
    Publication,
    PublicationContext,
    ReplyError,
    StreamPosition,
    SubscribedContext,
    SubscribingContext,
    SubscriptionErrorContext,
    SubscriptionEventHandler,
    UnsubscribedContext,
)


def say(**line: Any) -> None:
    """Tell the test."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def publication(it: Publication) -> dict[str, Any]:
    """Return what the test wants to know of a publication."""
    return {"offset": it.offset, "data": it.data, "user": it.info.user if it.info else None}


class Connection(ClientEventHandler):  # type: ignore[misc] # the SDK is not installed where types are checked
    """Tells what becomes of the connection."""

    async def on_connecting(self, ctx: ConnectingContext) -> None:
        """Tell that it begins, or begins again."""
        say(event="connecting", code=ctx.code, reason=ctx.reason)

    async def on_connected(self, ctx: ConnectedContext) -> None:
        """Tell that it is up."""
        say(event="connected", client=ctx.client)

    async def on_disconnected(self, ctx: DisconnectedContext) -> None:
        """Tell that it is over for good."""
        say(event="disconnected", code=ctx.code, reason=ctx.reason)

    async def on_error(self, ctx: ErrorContext) -> None:
        """Tell of an error."""
        say(event="error", code=ctx.code, channel="")


class Subscribed(SubscriptionEventHandler):  # type: ignore[misc] # as above
    """Tells what becomes of one subscription."""

    def __init__(self, channel: str) -> None:
        self._channel = channel

    def _tell(self, event: str, **more: Any) -> None:
        say(event=event, channel=self._channel, **more)

    async def on_subscribing(self, ctx: SubscribingContext) -> None:
        """Tell that it begins, or begins again."""
        self._tell("subscribing", code=ctx.code)

    async def on_subscribed(self, ctx: SubscribedContext) -> None:
        """Tell that it stands, and whether what was missed comes."""
        position = ctx.stream_position
        known = {"offset": position.offset, "epoch": position.epoch} if position else None
        self._tell("subscribed", recovered=ctx.recovered, asked=ctx.was_recovering, position=known)

    async def on_unsubscribed(self, ctx: UnsubscribedContext) -> None:
        """Tell that it is over for good."""
        self._tell("unsubscribed", code=ctx.code)

    async def on_publication(self, ctx: PublicationContext) -> None:
        """Tell of a publication."""
        self._tell("publication", **publication(ctx.pub))

    async def on_join(self, ctx: JoinContext) -> None:
        """Tell who came."""
        self._tell("join", user=ctx.info.user, client=ctx.info.client)

    async def on_leave(self, ctx: LeaveContext) -> None:
        """Tell who went."""
        self._tell("leave", user=ctx.info.user, client=ctx.info.client)

    async def on_error(self, ctx: SubscriptionErrorContext) -> None:
        """Tell of an error."""
        self._tell("error", code=getattr(ctx.error, "code", ctx.code))


class Peer:
    """One client; each public method but `perform` is a verb."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._asked: list[asyncio.Future[str]] = []
        self._client = Client(
            options["url"],
            events=Connection(),
            token=options["token"],
            get_token=self._asker("") if options["asks"] else None,
            min_reconnect_delay=0.05,
            max_reconnect_delay=0.5,
            max_server_ping_delay=options["ping_delay"],
        )

    async def perform(self, line: dict[str, Any]) -> None:
        """Do what a line says, and answer it."""
        number, verb = line.pop("id"), line.pop("verb")
        try:
            say(id=number, result=await getattr(self, verb)(**line))
        except ReplyError as error:
            say(id=number, error={"code": error.code, "message": str(error)})
        except Exception as error:  # noqa: BLE001 - the root of a command: the test is told of all that goes wrong
            say(id=number, error={"code": 0, "message": repr(error)})

    def _asker(self, channel: str) -> Callable[..., Awaitable[str]]:
        async def ask(*_: str) -> str:
            answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            self._asked.append(answer)
            say(event="token_wanted", ask=len(self._asked), channel=channel)
            return await answer

        return ask

    async def token(self, ask: int, token: str) -> None:
        """Hand over a token that was asked for."""
        self._asked[ask - 1].set_result(token)

    async def connect(self) -> None:
        """Begin to connect."""
        await self._client.connect()

    async def disconnect(self) -> None:
        """End the connection."""
        await self._client.disconnect()

    async def subscribe(self, channel: str, token: str, asks: bool) -> None:
        """Begin to subscribe."""
        get_token = self._asker(channel) if asks else None
        subscription = self._client.new_subscription(
            channel, events=Subscribed(channel), token=token, get_token=get_token, min_resubscribe_delay=0.05
        )
        await subscription.subscribe()

    async def unsubscribe(self, channel: str) -> None:
        """End a subscription and forget it."""
        subscription = self._client.get_subscription(channel)
        await subscription.unsubscribe()
        self._client.remove_subscription(subscription)

    async def publish(self, channel: str, data: Any) -> None:
        """Publish."""
        await self._client.publish(channel, data)

    async def presence(self, channel: str) -> dict[str, str]:
        """Return the user of each client."""
        found = await self._client.presence(channel)
        return {info.client: info.user for info in found.clients.values()}

    async def presence_stats(self, channel: str) -> dict[str, int]:
        """Count clients and users."""
        found = await self._client.presence_stats(channel)
        return {"num_clients": found.num_clients, "num_users": found.num_users}

    async def history(
        self, channel: str, limit: int = 0, since: dict[str, Any] | None = None, reverse: bool = False
    ) -> dict[str, Any]:
        """Read what is kept."""
        position = StreamPosition(**since) if since else None
        found = await self._client.history(channel, limit=limit, since=position, reverse=reverse)
        kept = [publication(it) for it in found.publications]
        return {"publications": kept, "offset": found.offset, "epoch": found.epoch}


async def main() -> None:
    """Perform line after line until there are no more."""
    lines = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(lines)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    peer = Peer(json.loads(sys.argv[1]))
    running = set()
    while line := await lines.readline():
        task = asyncio.create_task(peer.perform(json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)
    await peer.disconnect()


asyncio.run(main())
