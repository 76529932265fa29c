"""Django Channels as its documentation has it: async consumers, a group, and the pub/sub layer of channels_redis.

python django_channels.py PORT REDIS_URL, in the peers' environment

Set for speed: the pub/sub layer (the other one keeps lists in Redis), uvicorn with uvloop and httptools (Channels names
Daphne and uvicorn; Daphne is on Twisted), consumers without sessions or authentication, text that is made once by the
publisher and sent as it is, no debugging, no compression. Before each message for each consumer Channels looks after
the connections to databases in a thread, though none is configured; there is no setting for that, so it stays.
"""

from __future__ import annotations

import sys
from typing import Any

import django
import uvicorn
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.urls import path

GROUP = "bench"
urlpatterns: list[Any] = []  # this module is Django's list of pages, too: none


class Subscriber(AsyncWebsocketConsumer):  # type: ignore[misc] # the package is installed apart
    """Gets what the group gets."""

    async def connect(self) -> None:
        """Join before the upgrade is answered, so that nothing is missed after it."""
        await self.channel_layer.group_add(GROUP, self.channel_name)
        await self.accept()

    async def disconnect(self, _: int) -> None:
        """Leave."""
        await self.channel_layer.group_discard(GROUP, self.channel_name)

    async def publication(self, event: dict[str, Any]) -> None:
        """Pass on what came through Redis."""
        await self.send(text_data=event["text"])


class Publisher(AsyncWebsocketConsumer):  # type: ignore[misc] # the package is installed apart
    """Publishes each message, and acknowledges it when Redis has answered."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Publish."""
        assert bytes_data is None
        await self.channel_layer.group_send(GROUP, {"type": "publication", "text": text_data})
        await self.send(text_data='{"id":0}')


def create_app(redis_url: str) -> Any:
    """Return the ASGI application."""
    layer = {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [redis_url]}}
    settings.configure(
        DEBUG=False,
        ALLOWED_HOSTS=["127.0.0.1"],
        ROOT_URLCONF=__name__,
        INSTALLED_APPS=["channels"],
        CHANNEL_LAYERS={"default": layer},
    )
    django.setup()
    routes = [path("subscribe", Subscriber.as_asgi()), path("publish", Publisher.as_asgi())]
    return ProtocolTypeRouter({"http": get_asgi_application(), "websocket": URLRouter(routes)})


if __name__ == "__main__":
    # As everywhere here: clients of the comparison do not answer pings of the WebSocket layer.
    uvicorn.run(
        create_app(sys.argv[2]),
        port=int(sys.argv[1]),
        log_level="warning",
        access_log=False,
        ws_ping_interval=None,
        ws_per_message_deflate=False,
        lifespan="off",
    )
