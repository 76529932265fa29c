"""The whole settings tree; section and key names are Centrifugo v6's wherever the same thing exists."""

from __future__ import annotations

import ipaddress
from typing import Final, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from gateway.settings.channel import ChannelSettings
from gateway.settings.client import ClientSettings
from gateway.settings.durations import Seconds
from gateway.settings.section import SecretUrl, Section

LogLevel = Literal["debug", "info", "warning", "error", "critical", "none"]
_LEVEL_NAMES: Final = {"trace": "debug", "warn": "warning", "fatal": "critical"}  # as Centrifugo calls them


class EngineSettings(Section):
    """What carries state between nodes."""

    url: SecretUrl = Field(
        default="memory://",
        pattern=r"^[a-z][a-z0-9+.-]*://",
        description="memory://, redis://, several with commas, redis+sentinel://, redis+cluster://; rediss for TLS.",
    )
    prefix: str = Field(default="gateway", pattern=r"^[a-zA-Z0-9_-]{1,64}$", description="Starts every key in Redis.")
    command_timeout: Seconds = Field(default=1.5, ge=0.1, le=60, description="For Redis to answer a command.")
    subscribe_timeout: Seconds = Field(
        default=5.0, ge=0.1, le=60, description="For Redis to acknowledge a subscription."
    )
    epoch_salt: bool = Field(
        default=True,
        description="Begin history anew when Redis was restarted or a replica took over; false: it never loses writes.",
    )


class HttpServerSettings(Section):
    """Listening sockets and what is allowed before a request is understood."""

    address: str = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0: all.")
    port: int = Field(default=8000, ge=0, le=65_535, description="Port to listen on; 0: a free one.")
    internal_address: str = Field(
        default="", description="Address of the internal port; empty: as http_server.address."
    )
    internal_port: int | None = Field(
        default=None,
        ge=0,
        le=65_535,
        description="Port of /api, /metrics, /health, /docs; unset: the one port serves all.",
    )
    reuse_port: bool = Field(default=False, description="Share the port with other processes (SO_REUSEPORT).")
    workers: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Nodes on the one port, each with an internal port of its own: internal_port, the next, and so on.",
    )
    connections_per_ip: int = Field(default=200, ge=0, description="WebSockets from one address; 0: no limit.")
    trusted_proxies: tuple[str, ...] = Field(
        default=(), description="Addresses or networks whose X-Forwarded-For counts, such as 10.0.0.0/8."
    )
    memory_limit: int = Field(
        default=0,
        ge=0,
        description="Bytes of a node; beyond 80 % newcomers get 503. 0: its share of the control group's limit.",
    )
    head_timeout: Seconds = Field(
        default=10.0, gt=0, le=300, description="From connect to the end of the request head."
    )
    head_size_limit: int = Field(
        default=32_768, ge=1024, le=1_048_576, description="Bytes in a request head, then 431."
    )

    @field_validator("internal_port", mode="before")
    @classmethod
    def _unset_when_empty(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ipaddress.ip_network(network)  # its ValueError says what is wrong
        return value

    @model_validator(mode="after")
    def _two_ports(self) -> Self:
        if self.internal_port and self.internal_port == self.port:
            raise ValueError("internal_port should differ from port; leave it unset to serve all on one port")
        return self


class HttpApiSettings(Section):
    """The server API, `POST /api/<method>`."""

    key: SecretStr = Field(default=SecretStr(""), description="What X-API-Key must hold; empty: the server API is off.")
    body_size_limit: int = Field(
        default=1_048_576, ge=1024, le=1_073_741_824, description="Bytes in the body of a call, then 413."
    )


class WebSocketSettings(Section):
    """The WebSocket transport."""

    message_size_limit: int = Field(default=65_536, ge=1024, le=67_108_864, description="Bytes in a client's message.")
    fragment_limit: int = Field(default=64, ge=1, le=10_000, description="Fragments in a client's message.")
    control_frame_rate: float = Field(default=10.0, gt=0, description="Pings and pongs a second of one connection.")
    stall_timeout: Seconds = Field(
        default=10.0,
        ge=1,
        le=300,
        description="For a client with a full buffer to take 16 KiB, or what there is; then 3008.",
    )
    close_timeout: Seconds = Field(
        default=2.0, gt=0, le=60, description="For the client's close frame, then the link is cut."
    )


class ChatSettings(Section):
    """The plain protocols under /ws: chat, notifications, echo."""

    enabled: bool = Field(default=True, description="Serve /ws and /ws/{room}.")
    rate: float = Field(default=20.0, ge=0, description="Commands a second of one connection; 0: no limit.")
    burst: float = Field(default=40.0, ge=1, description="Commands of one connection at once.")
    private_messages: bool = Field(default=True, description="Let users write to each other.")
    echo_anonymous: bool = Field(default=False, description="Let echo connections in without a token.")


class WebSettings(Section):
    """The demo page."""

    enabled: bool = Field(default=False, description="Serve the demo page at /.")
    demo_file: str = Field(default="", description="JSON file with the page's nodes and auth service, for /demo.json.")


class LogSettings(Section):
    """What is logged, and how."""

    level: LogLevel = Field(default="info", description="debug, info, warning, error, critical or none.")
    format: Literal["auto", "json", "console"] = Field(
        default="auto", description="auto: console on a terminal, else json."
    )

    @field_validator("level", mode="before")
    @classmethod
    def _known_names(cls, value: object) -> object:
        return _LEVEL_NAMES.get(value.lower(), value.lower()) if isinstance(value, str) else value


class NodeSettings(Section):
    """This process among the others."""

    name: str = Field(default="", max_length=255, description="Name in /api/info and logs; empty: host_port.")


class ShutdownSettings(Section):
    """How the node stops."""

    delay: Seconds = Field(
        default=0.0,
        ge=0,
        le=300,
        description="Not ready and yet open to newcomers, until load balancers have noticed; 10s behind one.",
    )
    window: Seconds = Field(
        default=30.0, ge=0, le=300, description="Over which all connections are moved away; 0s: at once."
    )
    timeout: Seconds = Field(
        default=30.0, gt=0, le=3600, description="For the close handshakes after the window, then links are cut."
    )


class Settings(Section):
    """Everything an operator can decide."""

    engine: EngineSettings = Field(default=EngineSettings(), description="What carries state between nodes.")
    client: ClientSettings = Field(default=ClientSettings(), description="Client connections.")
    channel: ChannelSettings = Field(default=ChannelSettings(), description="Channels and namespaces.")
    http_server: HttpServerSettings = Field(default=HttpServerSettings(), description="Listening sockets.")
    http_api: HttpApiSettings = Field(default=HttpApiSettings(), description="The server API.")
    websocket: WebSocketSettings = Field(default=WebSocketSettings(), description="The WebSocket transport.")
    chat: ChatSettings = Field(default=ChatSettings(), description="The plain protocols.")
    web: WebSettings = Field(default=WebSettings(), description="The demo page.")
    log: LogSettings = Field(default=LogSettings(), description="Logs.")
    node: NodeSettings = Field(default=NodeSettings(), description="This process among the others.")
    shutdown: ShutdownSettings = Field(default=ShutdownSettings(), description="How the node stops.")
